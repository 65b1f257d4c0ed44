# Runs a service while this node may write, and waits while it may not: on a standby the database
# takes no writes, and such a service writes at its start. The run.sh of the service sources this,
# after it has defined
#
#   name       how it calls itself in the log
#   prepare    makes ready what the service needs; fails while it is too early
#   serve      becomes the service
#   tend       called once a minute while the service runs

round=5          # seconds
patience=3       # rounds without the right to write before the service is stopped
waiting=/tmp/waiting

service=
ending=
failed=0

end() {
    ending=1
    [ -z "$service" ] || kill "$service" 2>/dev/null
}
trap end TERM INT

# Of this node's right to write; nothing while it has none.
epoch() {
    if command -v curl >/dev/null; then
        curl -sf -m 3 http://127.0.0.1:9600/leader
    else
        timeout 3 wget -q -O - http://127.0.0.1:9600/leader
    fi | sed -n 's/.*"epoch": *\([0-9][0-9]*\).*/\1/p'
}

rest() {
    sleep "$round" &
    wait $!
}

while [ -z "$ending" ]; do
    began=$(epoch)
    if [ -z "$began" ]; then
        : >"$waiting"
        rest
        continue
    fi
    # Right after a promotion its role and database may not be there yet.
    if ! prepare; then
        failed=$((failed + 1))
        [ "$failed" -lt 24 ] || exit 1
        rest
        continue
    fi
    failed=0
    rm -f "$waiting"
    serve &
    service=$!
    missed=0
    rounds=0
    while kill -0 "$service" 2>/dev/null && [ -z "$ending" ]; do
        current=$(epoch)
        if [ "$current" = "$began" ]; then
            missed=0
        elif [ -z "$current" ]; then
            missed=$((missed + 1))
        else
            # Another node may have written in between, and the service remembers what was before.
            missed=$patience
        fi
        if [ "$missed" -ge "$patience" ]; then
            echo "$name: stopped, the right to write of epoch $began has ended"
            : >"$waiting"
            kill "$service"
            break
        fi
        if [ $((rounds % 12)) -eq 1 ]; then tend; fi
        rounds=$((rounds + 1))
        rest
    done
    wait "$service"
    code=$?
    service=
    # By itself: Docker starts all of this again.
    [ -n "$ending" ] || [ -f "$waiting" ] || exit "$code"
done
