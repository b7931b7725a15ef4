# --- copying --------------------------------------------------------------------------------

verb_stage() { # payload: the manifest's bytes, then the artifact's
    needs release size manifest manifest_size seconds
    begin_stage
    # A slow sender keeps nobody out: whoever takes the lock over meanwhile ends this copy.
    release_mutex
    umask 0222
    receive "$manifest_size" "$UPLOAD/release.json"
    umask 022
    digest "$UPLOAD/release.json"
    [ "$DIGEST" = "$manifest" ] || altered "$manifest_size" "$UPLOAD/release.json" 'the manifest arrived altered'
    case $found in
    intact | unlabelled) timeout -k 1 "$seconds" head -c "$size" >/dev/null || refuse slow-copy 'the rest did not arrive' ;;
    *)
        receive "$size" "$UPLOAD/$NAME"
        check_copy
        found=${DISK#* } ;;
    esac
    mutex
    check_token
    check_latch # it may have been stopped while the copy was under way
    finish_stage
    say "staged $found"
}

begin_stage() { # -> found, what is there of the release already; UPLOAD, where it arrives
    mutex
    check_token
    check_latch
    held "$release"
    found=$HELD
    free_bytes
    available=${FREE:-0}
    case $found in intact | unlabelled) room=$manifest_size ;; *) room=$((size + manifest_size + 1048576)) ;; esac
    [ "$available" -gt "$room" ] ||
        refuse no-space "$available bytes are free in $ROOT/releases, $room are needed"
    # Each holder of the lock has its own: two of them never write into one file.
    UPLOAD=$ROOT/releases/.incoming.$release.$token
    { { [ ! -e "$UPLOAD" ] || rm -rf "$UPLOAD"; } && mkdir -m 0755 "$UPLOAD"; } 2>/dev/null ||
        refuse cannot-write "$ROOT/releases can't be written"
}

receive() { # BYTES FILE: exactly so many, within the deadline, on disk
    # A copier with the file's name among its arguments could pass for a process that runs it.
    receive_error=$({ timeout -k 1 "$seconds" dd bs=1M count="$1" iflag=fullblock,count_bytes conv=fsync status=none >"$2"; } 2>&1)
    case $? in
    0) ;;
    124 | 137) refuse slow-copy "not all of $1 bytes arrived within $seconds s" ;;
    153) refuse cannot-write "files here may not grow to $1 bytes (RLIMIT_FSIZE)" ;;
    *) refuse cannot-write "the copy can't be written: $receive_error" ;;
    esac
}

altered() { # BYTES FILE TEXT: refuses what arrived, and says so where not all of it did
    received=$(stat -c %s "$2" 2>/dev/null)
    [ "$received" = "$1" ] || refuse short-copy "${received:-none} of $1 bytes arrived"
    refuse bad-copy "$3"
}

check_copy() { # what arrived is what was announced, read back from the disk, and says so itself
    disk_digest "$UPLOAD/$NAME"
    [ "${DISK%% *}" = "$release" ] || altered "$size" "$UPLOAD/$NAME" "read back from disk, the copy is ${DISK%% *}"
    chmod 0555 "$UPLOAD/$NAME" || refuse cannot-write 'modes can not be set'
    CUR=$UPLOAD
    said=$(run_version as_account 2>&1 | bounded)
    said=${said%%"$NEWLINE"*}
    [ "$said" = "$(manifest_version_line)" ] || refuse bad-version "it says it is '$said', the manifest says '$(manifest_version_line)'"
}

finish_stage() { # under the mutex, with the token checked anew: in place by one rename
    case $found in
    intact | unlabelled)
        { mv -T "$UPLOAD/release.json" "$ROOT/releases/$release/release.json" && sync "$ROOT/releases/$release"; } ||
            refuse cannot-write "$ROOT/releases/$release/release.json can't be written"
        rm -rf "$UPLOAD"
        return ;;
    esac
    if [ -e "$ROOT/releases/$release" ]; then
        rm -rf "$ROOT/releases/.damaged.$release"
        mv -T "$ROOT/releases/$release" "$ROOT/releases/.damaged.$release" || refuse cannot-write 'a damaged copy can not be moved away'
    fi
    { mv -T "$UPLOAD" "$ROOT/releases/$release" && sync "$ROOT/releases/$release" "$ROOT/releases"; } || refuse cannot-write "$ROOT/releases can't be written"
    slurp /proc/sys/kernel/random/boot_id
    facts "$ROOT/releases/$release/$NAME"
    fact_of "$ROOT/releases/$release/$NAME" && say "$SLURPED $FACT $release" >"$STATE/staged"
}

manifest_version_line() { # the manifest is canonical JSON, and its version_line has no quote or backslash
    IFS= read -r manifest_text <"$CUR/release.json"
    manifest_text=${manifest_text##*\"version_line\":\"}
    printf '%s' "${manifest_text%%\"*}"
}

