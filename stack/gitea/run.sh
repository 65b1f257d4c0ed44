#!/bin/sh
# Runs Gitea while this node may write, and waits while it may not: on a standby the database takes
# no writes, and Gitea writes at its start. Sees to it that the mirrors of mirrors.list are there.
set -u

here=/etc/overlord/gitea
config=/tmp/app.ini
curlrc=/tmp/curlrc
api=http://127.0.0.1:3001/api/v1
owner=overlord
repositories=/var/lib/gitea/repositories
round=5          # seconds
patience=3       # rounds without leadership before Gitea is stopped

umask 077
gitea=
ending=
failed=0

end() {
    ending=1
    [ -z "$gitea" ] || kill "$gitea" 2>/dev/null
}
trap end TERM INT

leads() {
    curl -sf -m 3 -o /dev/null http://127.0.0.1:9600/leader
}

rest() {
    sleep "$round" &
    wait $!
}

# Secrets go into files by the shell's own printf, never into a command line.
write_config() {
    cp "$here/app.ini" "$config"
    {
        printf '\n[database]\nPASSWD = %s\n' "$(cat /run/secrets/postgres_gitea_password)"
        printf '\n[security]\nSECRET_KEY = %s\n' "$(cat /run/secrets/gitea_secret_key)"
        printf 'INTERNAL_TOKEN = %s\n' "$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')"
    } >>"$config"
}

do_gitea() {
    /usr/local/bin/gitea --config "$config" "$@"
}

# A token for each start, since Gitea shows one only once. The account's password is known to nobody.
prepare() {
    write_config
    do_gitea migrate >/tmp/said 2>&1 || {
        cat /tmp/said >&2
        return 1
    }
    do_gitea admin user list 2>/dev/null | grep -qw "$owner" ||
        do_gitea admin user create --admin --username "$owner" --email "$owner@localhost" \
            --random-password --random-password-length 64 --must-change-password=false \
            >/dev/null || return 1
    token=$(do_gitea admin user generate-access-token --username "$owner" --raw \
        --token-name "start-$(date +%s)" --scopes write:repository,write:user) || return 1
    printf 'header = "Authorization: token %s"\nheader = "Content-Type: application/json"\n' \
        "$token" >"$curlrc"
}

call() {
    curl -s -K "$curlrc" -m 300 -o /tmp/answer -w '%{http_code}' "$@"
}

ensure_mirrors() {
    while read -r name url; do
        if [ "$(call "$api/repos/$owner/$name")" = 200 ]; then
            # After a failover the database may know what this disk never had.
            if grep -q "\"original_url\":\"$url\"" /tmp/answer &&
                [ -f "$repositories/$owner/$name.git/HEAD" ]; then
                continue
            fi
            call -X DELETE "$api/repos/$owner/$name" >/dev/null
        fi
        code=$(call -d "{\"clone_addr\":\"$url\",\"repo_owner\":\"$owner\",\"repo_name\":\"$name\",\"service\":\"git\",\"mirror\":true,\"mirror_interval\":\"1m0s\"}" "$api/repos/migrate")
        if [ "$code" = 201 ]; then
            echo "gitea: $name mirrors $url"
        else
            echo "gitea: $name cannot mirror $url (HTTP $code): $(head -c 300 /tmp/answer)" >&2
        fi
    done <"$here/mirrors.list"
    call "$api/users/$owner/repos?limit=50" >/dev/null
    tr ',' '\n' </tmp/answer | sed -n "s|^\"full_name\":\"$owner/\\(.*\\)\"$|\\1|p" | while read -r name; do
        grep -q "^$name " "$here/mirrors.list" && continue
        echo "gitea: $name is no longer asked for"
        call -X DELETE "$api/repos/$owner/$name" >/dev/null
    done
}

while [ -z "$ending" ]; do
    if ! leads; then
        : >/tmp/waiting
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
    rm -f /tmp/waiting
    /usr/local/bin/gitea --config "$config" web &
    gitea=$!
    missed=0
    rounds=0
    while kill -0 "$gitea" 2>/dev/null && [ -z "$ending" ]; do
        if leads; then missed=0; else missed=$((missed + 1)); fi
        if [ "$missed" -ge "$patience" ]; then
            echo "gitea: this node may write no more; waiting until it may"
            : >/tmp/waiting
            kill "$gitea"
            break
        fi
        if [ $((rounds % 12)) -eq 1 ]; then ensure_mirrors; fi
        rounds=$((rounds + 1))
        rest
    done
    wait "$gitea"
    code=$?
    gitea=
    # By itself: Docker starts all of this again.
    [ -n "$ending" ] || [ -f /tmp/waiting ] || exit "$code"
done
