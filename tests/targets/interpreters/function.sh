# The function of tests/clients/test_interpreters.py for BusyBox, by its applets alone: `busybox sh function.sh`.
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
bb=${BUSYBOX:-/bin/busybox}
folder=/tmp/function
$bb mkdir -p $folder

field() { # NAME: its value in the event, or nothing
    $bb sed -n "s/.*\"$1\": \"\{0,1\}\([^\",}]*\).*/\1/p" $folder/event
}

told() { # NAME COMMAND...: ok, or the end of what the command says
    name=$1
    shift
    if said=$("$@" 2>&1 >/dev/null); then said=ok; else said=${said##*: }; fi
    printf '%s"%s": "%s"' "$separator" "$name" "$said"
    separator=', '
}

work() {
    $bb seq 1 $((20000 * $1)) | $bb awk '{ kept[$1 % 1000] = kept[$1 % 1000] $1; sum += length(kept[$1 % 1000]) } END { print sum }' | $bb gzip | $bb sha256sum
}

stored() {
    echo text > "$1"
}

connected() { # nc waits for an end of its input, which must not be the first thing to come
    $bb sleep 1 | $bb nc -w 2 "$1" "$2"
}

handle() {
    separator=''
    rounds=$(field work) file=$(field file) program=$(field program) host=$(field host)
    printf '{'
    [ -z "$rounds" ] || told work work "$rounds"
    [ -z "$file" ] || told file stored "$file"
    [ -z "$program" ] || told program "$program"
    [ -z "$host" ] || told connect connected "$host" "$(field port)"
    printf '}'
}

while $bb wget -q -S -O $folder/event "$api/next" 2> $folder/headers; do
    id=$($bb sed -n 's/.*[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: *\([0-9a-f-]*\).*/\1/p' $folder/headers)
    handle > $folder/answer
    $bb wget -q -O /dev/null --post-file $folder/answer "$api/$id/response"
done
