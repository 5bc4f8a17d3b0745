# about: what is on disk survives a reboot and a power cut, and each boot goes on with the script
# disk: data1 size=32M wwn=0x6000c29a00000001
# disk: late size=32M wwn=0x6000c29a00000002 attach=later
# boots: 3

case $BOOT in
    1)
        echo one >/root/first
        host attach late
        dd if=/dev/zero of="/dev/$(disk_of data1)" bs=1M count=1 oflag=direct status=none
        host reboot
        ;;
    2)
        check "the file is still there" test -e /root/first
        check "an attached disk stays attached" disk_of late
        echo two >/root/second
        sync
        echo lost >/root/third
        host crash
        ;;
    3)
        check "what was synced is there" test -e /root/second
        check "the log of the boot before this one ends without a shutdown" \
            sh -c '! journalctl -b -1 | grep -q "Reached target Shutdown"'
        ;;
esac
