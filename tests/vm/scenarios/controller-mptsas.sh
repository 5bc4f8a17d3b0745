# about: disks on LSI SAS, whose driver numbers targets by itself
# disk: data1 size=32M wwn=0x6000c29a00000001
# disk: data2 size=32M wwn=0x6000c29a00000002 paths=2
# controller: mptsas
# smp: 2
# memory: 2G

expect_eq "both paths are there" 2 "$(disk_of data2 | wc -l)"
for name in $(disk_of data2); do
    expect_eq "$name has the id of data2" 36000c29a00000002 \
        "$(udevadm info -q property -n "/dev/$name" | sed -n 's/^ID_SERIAL=//p')"
done
host pattern data1 7
expect_eq "data1 is data1" "$(host sha256 data1)" "$(sha256sum "/dev/$(disk_of data1)" | cut -d ' ' -f 1)"
fails host detach data1
