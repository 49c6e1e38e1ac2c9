# A handler of examples/shell-runtime for every case of tests/e2e/test_runtimes.py, attacks included.
events=0
[ -z "${BREAK_INIT:-}" ] || return 1

field() { # NAME: its value in the event, or nothing
    sed -n "s/.*\"$1\": \"\{0,1\}\([^\",}]*\).*/\1/p" "$event"
}

handle() {
    event=$1 attack=''
    events=$((events + 1))
    raised=$(field raise) status=$(field exit) slept=$(field sleep) spawned=$(field spawn) connected=$(field connect)
    if [ -n "$raised" ]; then
        printf '%s' "$raised"
        return 1
    fi
    [ -z "$status" ] || exit "$status"
    [ -z "$slept" ] || sleep "$slept"
    [ -z "$spawned" ] || attack=$(/usr/bin/touch "$spawned" 2>&1 && echo spawned)
    [ -z "$connected" ] || attack=$(curl -sS "http://127.0.0.1:$connected/" 2>&1 && echo connected)
    printf '{"pid": %d, "parent": %d, "events": %d, "attack": "%s"}' $$ "$PPID" "$events" "$(echo "$attack" | tr '"\n' "' ")"
}
