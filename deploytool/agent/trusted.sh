# Whether an interpreter may be run as this account, and as root above all.
# shellcheck shell=sh

trusted() { # PATH: only root, or this account itself, may change the file, what it leads to, and the folders above
    set -- "$1" "$(readlink -f "$1")"
    [ -n "$2" ] || return 1
    for path in "$@"; do
        while [ -n "$path" ]; do
            [ -O "$path" ] || [ "$(stat -Lc %u "$path")" = 0 ] || return 1
            case $(stat -Lc %A "$path") in ?????w* | ????????w*) return 1 ;; esac
            path=${path%/*}
        done
    done
}
