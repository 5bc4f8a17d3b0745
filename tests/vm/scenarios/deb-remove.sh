# about: removed, replicas and recovery points stay; installed again, the items are there; purged, all that is ours is gone but these
# packages: none
# timeout: 900
# disk: replica size=64M wwn=0x6000c29a00000f01
# disk: ret size=2G wwn=0x6000c29a00000f02
. "$LAB/in/replication.sh"
. "$LAB/in/configuration-server.sh"
. "$LAB/in/packages.sh"

id=36000c29a00000f01
# What no removal may touch.
kept() {
    sha256sum /etc/fstab /mnt/retention/retention-volume
    find /mnt/retention -type f -printf '%P %s\n' | sort
    host sha256 replica
}
files_of_ours() {
    find / -xdev \( -name '*master-target*' -o -name 'mt-configserver*' -o -name 'mt-source*' -o -name 'mt-process-server*' -o -name 'mtd*' -o -name 'mtctl*' \
        -o -name UnifiedAgentConfigurator.sh -o -name .vx_version \) \
        ! -path "$LAB/*" ! -path '/mnt/*' ! -path '/root/*' ! -path '/var/lib/dpkg/*' ! -path '/var/log/*' ! -path '/proc/*' \
        ! -path '/etc/fstab*' ! -path '/etc/multipath*' | sort
}

before=$(files_of_ours)
check "installed" install_packages "$LAB/in/packages"
register_all
mount_retention ret
head -c 64M /dev/urandom >/srv/web01.raw
protect web01 $id 64MiB
start_source web01 /srv/web01.raw
wait_until 120 item_is web01 protected
bookmark web01 before
points=$(mtctl points web01 --json | sha256sum)
echo "# an administrator's word" >>/etc/master-target/mtd.toml

note "removed"
systemctl stop master-target
held=$(kept)
check "removed" dpkg --remove master-target
fails test -e /usr/bin/mtd
check "the source's package has the command of old runbooks still" test -x /usr/local/ASR/Vx/bin/UnifiedAgentConfigurator.sh
check "the configuration is kept" grep -F "an administrator's word" /etc/master-target/mtd.toml
expect_eq "replica, journal and fstab are as they were" "$held" "$(kept)"

note "installed again"
check "installed" install_packages "$LAB/in/packages" master-target
wait_until 60 is_linked
wait_until 120 item_is web01 protected
expect_eq "each recovery point is there" "$points" "$(mtctl points web01 --json | sha256sum)"
dd if=/dev/urandom of=/dev/nbd0 bs=1M count=4 oflag=direct status=none
bookmark web01 after
check "to an older point" mtctl failover web01 --point before --yes
check "and to the newest" mtctl failover web01 --point after --yes
expect_eq "the disk is what its source is" "$(sha256 /srv/web01.raw)" "$(host sha256 replica)"
stop_source web01
systemctl stop master-target
held=$(kept)

note "purged"
check "purged" dpkg --purge master-target master-target-source master-target-configserver
note "$output"
check "it says what is kept" grep -F "kept: the retention volume" <<<"$output"
expect_eq "replica, journal and fstab are as they were" "$held" "$(kept)"
# What start_source made.
rm -r /etc/mt-source
expect_eq "nothing else of ours is left" "$before" "$(files_of_ours)"
check "the volume is mounted still" mountpoint /mnt/retention
