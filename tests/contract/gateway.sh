#!/bin/sh
# The smallest thing that an inventory's gateway and membership can name: one sender, whose bits are a file.
# Usage: gateway.sh FOLDER use BIT RELEASE | withdraw BIT | observe | membership
bits=$1/bits hosts=$1/hosts shown=$1/release
case $2 in
use) printf '%s' "$3" >"$bits" && printf '%s' "$4" >"$1/told" ;;
withdraw) : >"$bits" ;;
esac
release=$(cat "$shown") sessions='' serving=''
while read -r host; do
    sessions="$sessions${sessions:+, }\"$host\": [\"$release\"]" serving="$serving${serving:+, }\"$host\""
done <"$hosts"
now=$(date +%s)
case $2 in
membership) echo "{\"taken\": $now, \"serving\": [$serving]}" ;;
*) echo "{\"taken\": $now, \"bits\": [$(cat "$bits")], \"sessions\": {$sessions}}" ;;
esac
