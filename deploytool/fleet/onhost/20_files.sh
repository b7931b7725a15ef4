# --- files ----------------------------------------------------------------------------------

put() { # FILE TEXT: becomes its content, atomically and on disk
    printf '%s\n' "$2" >"$1.new" && sync "$1.new" && mv -T "$1.new" "$1" && sync "${1%/*}"
}

put_both() { # FILE TEXT FILE TEXT: as put, one after the other, in one folder, for the price of little more than one
    printf '%s\n' "$2" >"$1.new" && printf '%s\n' "$4" >"$3.new" && sync "$1.new" "$3.new" &&
        mv -T "$1.new" "$1" && mv -T "$3.new" "$3" && sync "${3%/*}"
}

gone() { # FILE...: no file has such a name any more; a host pays for a process only where there is one
    for gone_file in "$@"; do
        if [ -e "$gone_file" ] || [ -L "$gone_file" ]; then rm -f "$gone_file" || return 1; fi
    done
}

now() { # -> NOW: seconds since the epoch, looked at once in a request
    [ -n "$NOW" ] || NOW=$(date +%s)
}

time_up() { # -> UP: whole seconds since boot, by a clock that nobody sets
    IFS='. ' read -r UP _ </proc/uptime
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

READ_ERROR=25bd832d10a928d85e906a2e582c6bc5532e1a2cd79359c6d09135de00053370 # echo read error | sha256sum

disk_digest() { # FILE -> DISK, "digest direct|cached": past the page cache where the disk allows it
    disk_way=direct
    disk_sum=$({ dd if="$1" iflag=direct bs=1M status=none 2>/dev/null || say 'read error'; } | sha256sum)
    if [ "${disk_sum%% *}" = "$READ_ERROR" ] && ! dd if="$1" of=/dev/null iflag=direct bs=4096 count=1 status=none 2>/dev/null; then
        disk_way=cached
        dd of="$1" oflag=nocache conv=notrunc,fdatasync count=0 status=none 2>/dev/null || :
        disk_sum=$(sha256sum <"$1" 2>/dev/null) || disk_sum=unreadable
    fi
    DISK="${disk_sum%% *} $disk_way"
}

