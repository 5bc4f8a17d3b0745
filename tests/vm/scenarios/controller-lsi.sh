# about: a disk comes and goes on the controller lsi
# disk: late size=32M wwn=0x6000c29a00000001 attach=later
# disk: data1 size=32M wwn=0x6000c29a00000002 paths=2
# controller: lsi
# smp: 2
# memory: 2G

expect_eq "both paths are there" 2 "$(disk_of data1 | wc -l)"
host attach late
name=$(disk_of late)
check "it can be written" dd if=/dev/zero of="/dev/$name" bs=1M count=32 oflag=direct
host detach late
wait_until 30 test ! -e "/dev/$name"
