#!/bin/sh
# What a virtual machine needs beyond a bare host, in the tree $1: a kernel's drivers, an address by
# DHCP, and the account that Vagrant comes in with. What a rehearsal doesn't need is masked, since
# an emulated machine starts slowly.
set -eu
root=$1

cat >"$root/etc/initramfs-tools/conf.d/machine" <<'END_CONF'
MODULES=list
COMPRESS=zstd
END_CONF
printf '%s\n' virtio_pci virtio_blk virtio_net ext4 >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u -k all

echo '/dev/vda / ext4 defaults,errors=remount-ro 0 1' >"$root/etc/fstab"
mkdir -p "$root/etc/systemd/network"
cat >"$root/etc/systemd/network/eth0.network" <<'END_NETWORK'
[Match]
Name=eth0

[Network]
DHCP=ipv4
IPv6AcceptRA=no
LinkLocalAddressing=no

[DHCPv4]
ClientIdentifier=mac
END_NETWORK
ln -sf /usr/lib/systemd/system/systemd-networkd.service \
    "$root/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"

for unit in systemd-logind.service systemd-resolved.service systemd-networkd-wait-online.service \
    e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer fstrim.timer man-db.timer motd-news.timer systemd-pcrphase.service \
    systemd-binfmt.service systemd-rfkill.service getty@tty1.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
# A machine resolves its own name at each sudo, and nobody else's, ever: from the file alone, since a
# name server that doesn't know it costs seconds.
sed -i 's/^hosts:.*/hosts: files/' "$root/etc/nsswitch.conf"
{
    echo '127.0.0.1 localhost'
    printf '127.0.1.1'
    number=1
    while [ "$number" -le 64 ]; do printf ' router%d' "$number"; number=$((number + 1)); done
    echo
} >"$root/etc/hosts"

# Without logind, its PAM module makes every login wait for it.
sed -i '/pam_systemd/d' "$root/etc/pam.d/common-session"
sed -i '/pam_motd/d; /pam_mail/d' "$root/etc/pam.d/sshd"
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=8M\n' >"$root/etc/systemd/journald.conf.d/machine.conf"

# Vagrant's own account, with the key that everybody knows: a throwaway machine, on a network that
# leads nowhere. Vagrant itself expects both.
chroot "$root" useradd --create-home --shell /bin/bash vagrant
mkdir -p "$root/home/vagrant/.ssh"
chmod 0700 "$root/home/vagrant/.ssh"
cp "$VAGRANT_KEYS" "$root/home/vagrant/.ssh/authorized_keys"
chmod 0600 "$root/home/vagrant/.ssh/authorized_keys"
chroot "$root" chown -R vagrant:vagrant /home/vagrant/.ssh
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/vagrant"
chmod 0440 "$root/etc/sudoers.d/vagrant"
printf 'UseDNS no\nMaxStartups 100\nPrintLastLog no\n' >"$root/etc/ssh/sshd_config.d/rehearsal.conf"
