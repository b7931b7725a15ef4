# --- files ----------------------------------------------------------------------------------

put() { # FILE TEXT: becomes its content, atomically and on disk
    printf '%s\n' "$2" >"$1.new" && sync "$1.new" && mv -T "$1.new" "$1" && sync "${1%/*}"
}

slurp() { # FILE -> SLURPED: its lines in one, without a process; fails where it can't be read
    SLURPED=''
    [ -r "$1" ] || return 1
    while IFS= read -r slurped_line || [ -n "$slurped_line" ]; do SLURPED="$SLURPED$slurped_line "; done <"$1"
    SLURPED=${SLURPED% }
}

# A host pays for each process that is started here, so files are asked about all at once.

digests() { # FILE... -> DIGESTS, of what a program that opens them now would read
    DIGESTS=$NEWLINE$(sha256sum -- "$@" 2>/dev/null)$NEWLINE
}

digest_of() { # FILE -> DIGEST; empty where it could not be read
    case $DIGESTS in
    *"$NEWLINE"????????????????????????????????????????????????????????????????"  $1$NEWLINE"*)
        DIGEST=${DIGESTS%%"  $1$NEWLINE"*} DIGEST=${DIGEST##*"$NEWLINE"} ;;
    *) DIGEST='' ;;
    esac
}

digest() { # FILE -> DIGEST
    digests "$1"
    digest_of "$1"
}

facts() { # FILE... -> FACTS
    FACTS=$NEWLINE$(stat -L -c '%n|%d:%i|%s|%u:%g:%a|%.9Y|%.9Z' -- "$@" 2>/dev/null)$NEWLINE
}

fact_of() { # FILE -> FACT: inode|size|owner:group:mode|modified|changed; fails where it is not there
    case $FACTS in
    *"$NEWLINE$1|"*) FACT=${FACTS#*"$NEWLINE$1|"} FACT=${FACT%%"$NEWLINE"*} ;;
    *) FACT=''; return 1 ;;
    esac
}

disk_digest() { # FILE -> DISK, "digest direct|cached": past the page cache where the disk allows it
    disk_way=direct
    if ! dd if="$1" of=/dev/null iflag=direct bs=4096 count=1 status=none 2>/dev/null; then
        disk_way=cached
        dd of="$1" oflag=nocache conv=notrunc,fdatasync count=0 status=none 2>/dev/null || :
    fi
    if [ $disk_way = direct ]; then
        disk_sum=$({ dd if="$1" iflag=direct bs=1M status=none 2>/dev/null || say 'read error'; } | sha256sum)
    else
        disk_sum=$(sha256sum <"$1" 2>/dev/null) || disk_sum=unreadable
    fi
    DISK="${disk_sum%% *} $disk_way"
}

