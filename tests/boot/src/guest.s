# What the guest runs: a boot sector in real mode that counts, and writes each number down before it says it.
#
# Number n goes into a record, sector FIRST + n % RECORDS, and then into the head, sector 1; each fills its sector with n.
# When it starts it reads the head and the record that belongs to it, and goes on from there: a head without its record
# means that the disk is at no moment that there has been.

        .set    HEAD, 1
        .set    FIRST, 16
        .set    RECORDS, 4096
        .set    BUFFER, 0x8000
        .set    COM1, 0x3f8

        .code16
        .globl  _start
_start:
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        cld
        sti
        movb    %dl, drive

        movl    $HEAD, %eax
        call    read
        movl    BUFFER, %eax
        movl    %eax, number
        call    is_whole
        jne     torn
        call    place
        call    read
        call    is_whole
        jne     torn
        movw    $found, %si
        call    say
        call    say_number

next:
        incl    number
        movw    $BUFFER, %di
        movw    $128, %cx
        movl    number, %eax
        rep stosl
        call    place
        call    write
        movl    $HEAD, %eax
        call    write
        call    say_number
        jmp     next

torn:   movw    $torn_text, %si
        call    say
        call    say_number
        jmp     stop
failed: movw    $failed_text, %si
        call    say
stop:   hlt
        jmp     stop

# Whether the buffer is full of the number.
is_whole:
        movw    $BUFFER, %di
        movw    $128, %cx
        movl    number, %eax
        repe scasl
        ret

# The sector of the number's record, in %eax.
place:  movl    number, %eax
        andl    $(RECORDS - 1), %eax
        addl    $FIRST, %eax
        ret

# The buffer from and to the sector in %eax.
read:   movb    $0x42, %cl
        jmp     transfer
write:  movb    $0x43, %cl
transfer:
        movl    %eax, sector
        movb    %cl, %ah
        xorb    %al, %al
        movb    drive, %dl
        movw    $packet, %si
        int     $0x13
        jc      failed
        ret

say_number:
        movl    number, %eax
        movw    $8, %cx
digit:  roll    $4, %eax
        pushl   %eax
        andb    $15, %al
        addb    $'0', %al
        cmpb    $'9', %al
        jbe     1f
        addb    $('a' - '9' - 1), %al
1:      call    put
        popl    %eax
        loop    digit
        movb    $'\n', %al

put:    movw    %ax, %bx
        movw    $(COM1 + 5), %dx
1:      inb     %dx, %al
        testb   $0x20, %al
        jz      1b
        movw    $COM1, %dx
        movb    %bl, %al
        outb    %al, %dx
        ret

say:    lodsb
        testb   %al, %al
        jz      1f
        call    put
        jmp     say
1:      ret

found:       .asciz "found "
torn_text:   .asciz "torn "
failed_text: .asciz "the disk has failed\n"
packet: .byte   16, 0
        .word   1
        .word   BUFFER, 0
sector: .quad   0
number: .long   0
drive:  .byte   0

        .org    510
        .word   0xaa55
