# about: the commands of runbooks for the old product prepare, install, upgrade and register; what they no longer do, they say
# packages: none
# timeout: 900
. "$LAB/in/replication.sh"
. "$LAB/in/configuration-server.sh"
. "$LAB/in/packages.sh"

unpack() {
    mkdir -p "$1"
    tar -xzf "$LAB"/in/packages/master-target_*_installer.tar.gz -C "$1"
    cd "$1"
}
says() {
    fails "${@:2}"
    check "it says why" grep -F -- "$1" <<<"$output"
}

become_ubuntu
# What makes the initramfs anew takes minutes under emulation, and foreign-volumes shows it.
ln -sf /bin/true /usr/sbin/update-initramfs
# Something that keeps the clock right, as a machine has it.
printf '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' >/etc/systemd/system/lab-ntp.service
mkdir -p /usr/lib/systemd/ntp-units.d
echo lab-ntp.service >/usr/lib/systemd/ntp-units.d/50-lab.list
systemctl daemon-reload
unpack /usr/local/installer
says "unpacked in /usr/local/installer" ./install -q -d /usr/local/ASR -r MT -v VmWare
says "unpacked in /usr/local/installer" ./ApplyCustomChanges.sh
rm -r /usr/local/installer

unpack /root/installer
note "once, before the installation"
status=0
./ApplyCustomChanges.sh || status=$?
check "it ends well, or names what only people can mend" test $status = 0 -o $status = 3
fails test -e /usr/bin/mtctl
says "it was run before" ./ApplyCustomChanges.sh

says "there is no role PS" ./install -q -r PS -v VmWare
says "there is no platform Hyper-V" ./install -q -r MT -v Hyper-V
says "the option -c is not supported" ./install -q -r MT -v VmWare -c 10.0.0.9
says "a master target runs on VMware" ./install -q -r MT -v Azure
check "installed" ./install -q -d /opt/ASR -r MT -v VmWare
note "$output"
check "the daemon runs" systemctl is-active master-target
check "the version is told" grep -x "VERSION=$(version_of master-target)" /usr/local/.vx_version

check "a configuration server" install_packages "$LAB/in/packages" master-target-configserver
wait_until 60 test -s /var/lib/mt-configserver/connection.passphrase
wait_until 60 sh -c 'ip -4 address show eth0 | grep inet'
check "the machine knows its own name" mtctl check --fix --yes --only hosts-file
# As the published procedure has it.
echo "$(cat /var/lib/mt-configserver/connection.passphrase)" >passphrase.txt
says "the option -c is not supported" /usr/local/ASR/Vx/bin/UnifiedAgentConfigurator.sh -i 127.0.0.1 -P passphrase.txt -c CSLegacy
says "usage" /usr/local/ASR/Vx/bin/UnifiedAgentConfigurator.sh -i 127.0.0.1
check "registered" /opt/ASR/Vx/bin/UnifiedAgentConfigurator.sh -i 127.0.0.1 -P passphrase.txt
wait_until 60 is_linked

note "upgraded by the same command, with questions"
mkdir -p /root/later/packages
cp install /root/later/
cp "$LAB"/in/later/master-target_*_amd64.deb /root/later/packages/
cd /root/later
install_answering() { printf '%s\n' "$@" | ./install; }
fails install_answering MT "" N
check "upgraded" install_answering MT "" Y
note "$output"
expect_eq "to the new version" 99.0.0 "$(version_of master-target)"
expect_eq "which is told" VERSION=99.0.0 "$(cat /usr/local/.vx_version)"
