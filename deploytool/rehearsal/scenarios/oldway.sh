#!/bin/sh
# How it was done on the day: one host after the other, copy and restart, and never look back.
#   oldway.sh SSH_CONFIG ARTIFACT MANIFEST FOLDER HOST...
# FOLDER holds for each host a script that switches and restarts it, and the place to copy to.
config=$1 artifact=$2 manifest=$3 folder=$4
shift 4
for host in "$@"; do
    into=$(cat "$folder/$host.into")
    scp -q -F "$config" "$artifact" "$manifest" "$host:$into" &&
        ssh -F "$config" "$host" sh -s <"$folder/$host.sh"
done
echo SUCCESS
