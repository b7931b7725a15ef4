# Why a host that was made ready does not let the deploy account in, or to its agent. It changes nothing.
# "deploytool host prepare" sends it to "sh -s", behind its settings, after it tried and failed. It runs as root.
# shellcheck shell=sh disable=SC2154 # the settings are put in front of it
set -uf
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

printf '\ndeploytool %s begin\n' "$NONCE"
cause() { printf 'cause %s\n' "$(printf '%s' "$*" | tr '\n' ' ')"; }

said() { # the host's own words of the last minute about the account, of the newest the last
    journalctl --quiet --no-pager --since -60s --output cat "$@" 2>/dev/null | tail -n 200 |
        grep -v -e ' session opened ' -e ' session closed ' -e '^Accepted ' -e ' : PWD=' | grep -w -e "$DEPLOY" | tail -n 2 |
        while read -r line; do cause "the host's own words: $line"; done
}

login() { # what sshd goes by, in its order
    home=$(getent passwd "$DEPLOY" | cut -d: -f6) shell=$(getent passwd "$DEPLOY" | cut -d: -f7)
    settings=$(sshd -T -C "user=$DEPLOY,host=localhost,addr=127.0.0.1" 2>/dev/null)
    setting() { printf '%s\n' "$settings" | sed -n "s/^$1 //p" | tr '\n' ' ' | sed 's/ $//'; }
    [ -x "$shell" ] || cause "the account's shell, $shell, can't be run"
    case $shell in */nologin | */false) cause "the account's shell is $shell: usermod --shell /bin/sh $DEPLOY" ;; esac
    for file in /etc/nologin /run/nologin; do
        [ ! -e "$file" ] || cause "$file is there: PAM lets only root in"
    done
    case $(getent shadow "$DEPLOY" | cut -d: -f2) in
    '!'*) [ "$(setting usepam)" != no ] || cause "the password field in /etc/shadow begins with '!', and sshd has UsePAM no" ;;
    esac
    expires=$(getent shadow "$DEPLOY" | cut -d: -f8)
    [ "${expires:-999999}" -gt $(($(date +%s) / 86400)) ] || cause "the account has expired (/etc/shadow): chage --expiredate -1 $DEPLOY"
    [ "$(setting pubkeyauthentication)" != no ] || cause 'sshd has PubkeyAuthentication no'
    for name in allowusers denyusers allowgroups denygroups; do
        [ -z "$(setting $name)" ] || cause "sshd has $name $(setting $name); the account is $DEPLOY, in the groups $(id -Gn "$DEPLOY")"
    done
    case $(setting authenticationmethods) in '' | any | publickey) ;; *) cause "sshd asks for more than a key: AuthenticationMethods $(setting authenticationmethods)" ;; esac
    case " $(setting authorizedkeysfile) " in
    *' .ssh/authorized_keys '* | *' %h/.ssh/authorized_keys '*) ;;
    *) cause "sshd reads the keys of accounts from $(setting authorizedkeysfile), and not from .ssh/authorized_keys" ;;
    esac
    keys=$home/.ssh/authorized_keys
    if [ ! -s "$keys" ]; then
        cause "$keys has no key: name yours with --authorize"
    elif [ "$(setting strictmodes)" != no ]; then
        for path in "$home" "$home/.ssh" "$keys"; do
            [ -z "$(find "$path" -maxdepth 0 -perm /022)" ] || cause "others than its owner can write to $path, and sshd has StrictModes yes: chmod go-w $path"
        done
    fi
    said -t sshd -t sshd-session
}

agent() { # what sudo and the kernel go by
    case ,$(findmnt -n -o OPTIONS -T "$AGENT_PATH"), in *,noexec,*) cause "$AGENT_PATH lies on a file system that is mounted noexec" ;; esac
    for file in $(sudo_files); do
        [ "$file" = "$SUDOERS_PATH" ] && ours=yes && continue
        [ -r "$file" ] || continue
        sed -n "s/^[[:space:]]*//; /^Defaults.*[^!]requiretty/p" "$file" | grep -q . && cause "$file asks for a terminal (requiretty)"
        for who in "$DEPLOY" ALL $(id -Gn "$DEPLOY" | tr ' ' '\n' | sed 's/^/%/'); do
            line=$(grep -e "^[[:space:]]*${who}[[:space:]].*=" "$file" | tail -n 1)
            [ -z "$line" ] || [ -z "${ours:-}" ] || cause "$file comes after $SUDOERS_PATH, and its line wins: $line"
        done
    done
    [ -n "${ours:-}" ] || cause "sudo does not read $SUDOERS_PATH: /etc/sudoers has no line @includedir ${SUDOERS_PATH%/*}"
    [ "$(getenforce 2>/dev/null)" != Enforcing ] || cause "SELinux is enforcing, and the agent is $(ls -Z "$AGENT_PATH")"
    said -t sudo
}

sudo_files() { # in the order in which sudo reads them; of several rules the last one wins
    sed -n 's/^[@#]include\(dir\)\{0,1\}[[:space:]]/&/; t found; b
:found
p' /etc/sudoers 2>/dev/null | while read -r word path; do
        case $word in
        *includedir) find "$path" -maxdepth 1 -type f ! -name '*.*' ! -name '*~' 2>/dev/null | sort ;;
        *) echo "$path" ;;
        esac
    done
}

"$WHAT"
printf 'deploytool %s end ok\n' "$NONCE"
