#!/bin/sh
# Runs Gitea where this node may write, and sees to it that the mirrors of mirrors.list are there.
set -u
umask 077

here=/etc/overlord/gitea
config=/tmp/app.ini
curlrc=/tmp/curlrc
api=http://127.0.0.1:3001/api/v1
owner=overlord
repositories=/var/lib/gitea/repositories
name=gitea

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

tend() {
    while read -r repository url; do
        if [ "$(call "$api/repos/$owner/$repository")" = 200 ]; then
            # After a failover the database may know what this disk never had.
            if grep -q "\"original_url\":\"$url\"" /tmp/answer &&
                [ -f "$repositories/$owner/$repository.git/HEAD" ]; then
                continue
            fi
            call -X DELETE "$api/repos/$owner/$repository" >/dev/null
        fi
        code=$(call -d "{\"clone_addr\":\"$url\",\"repo_owner\":\"$owner\",\"repo_name\":\"$repository\",\"service\":\"git\",\"mirror\":true,\"mirror_interval\":\"1m0s\"}" "$api/repos/migrate")
        if [ "$code" = 201 ]; then
            echo "gitea: $repository mirrors $url"
        else
            echo "gitea: $repository cannot mirror $url (HTTP $code): $(head -c 300 /tmp/answer)" >&2
        fi
    done <"$here/mirrors.list"
    call "$api/users/$owner/repos?limit=50" >/dev/null
    tr ',' '\n' </tmp/answer | sed -n "s|^\"full_name\":\"$owner/\\(.*\\)\"$|\\1|p" | while read -r repository; do
        grep -q "^$repository " "$here/mirrors.list" && continue
        echo "gitea: $repository is no longer asked for"
        call -X DELETE "$api/repos/$owner/$repository" >/dev/null
    done
}

serve() {
    exec /usr/local/bin/gitea --config "$config" web
}

. "$here/while-leader.sh"
