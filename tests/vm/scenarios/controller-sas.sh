# about: disks on LSI SAS, whose driver numbers targets by itself, as the inventory shows them
# disk: data1 size=32M wwn=0x6000c29a00000b01
# disk: data2 size=32M wwn=0x6000c29a00000b02 paths=2
# controller: mptsas
# smp: 2
# memory: 2G

mtctl disks
mtctl disks --json >/run/disks.json
fact() { # SCSI-ID EXPRESSION
    python3 -c "
import json
disk = next(disk for disk in json.load(open('/run/disks.json'))['disks'] if disk['scsi_id'] == ($1))
print($2)"
}
expect_eq "the controller" lsi-sas "$(fact "'36000c29a00000b01'" "disk['paths'][0]['controller']")"
expect_eq "the size" $((32 << 20)) "$(fact "'36000c29a00000b01'" "disk['bytes']")"
expect_eq "the kernel's name" "$(disk_of data1)" "$(fact "'36000c29a00000b01'" "disk['name']")"
expect_eq "udev knows it by the same id" 36000c29a00000b01 \
    "$(udevadm info -q property -n "/dev/$(disk_of data1)" | sed -n 's/^ID_SERIAL=//p')"
expect_eq "both paths are there" 2 "$(disk_of data2 | wc -l)"
expect_eq "the root disk" system "$(fact "'36000c29000000000'" "disk['role']")"
host pattern data1 7
expect_eq "data1 is data1" "$(host sha256 data1)" "$(sha256sum "/dev/$(disk_of data1)" | cut -d ' ' -f 1)"
fails mtctl disks /dev/null
fails mtctl disks /dev/sdzz
fails mtctl partitions "$(disk_of data1)" --map
