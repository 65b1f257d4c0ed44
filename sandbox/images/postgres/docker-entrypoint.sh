#!/bin/bash
# Does at first start what the official image documents: a cluster, a superuser, a database, and
# the scripts of /docker-entrypoint-initdb.d, behind a server that listens on its socket only.
set -Eeuo pipefail

fail() {
    echo "postgres: $*" >&2
    exit 1
}

# Each setting may be given as NAME, or as NAME_FILE with the value in that file.
setting() {
    local name=$1 default=${2:-} file="${1}_FILE"
    if [[ -n ${!name:-} && -n ${!file:-} ]]; then
        fail "$name and $file are both set; give one"
    fi
    if [[ -n ${!file:-} ]]; then
        cat -- "${!file}"
    else
        printf '%s' "${!name:-$default}"
    fi
}

[[ ${1:-} == -* ]] && set -- postgres "$@"
[[ ${1:-} == postgres ]] || exec "$@"
for word in "$@"; do
    case $word in --help | -\? | --version | -V | --describe-config) exec "$@" ;; esac
done

if [[ $(id -u) == 0 ]]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    exec setpriv --reuid=postgres --regid=postgres --init-groups "${BASH_SOURCE[0]}" "$@"
fi

mkdir -p "$PGDATA"
chmod 700 "$PGDATA" || true

if [[ ! -s $PGDATA/PG_VERSION ]]; then
    user=$(setting POSTGRES_USER postgres)
    password=$(setting POSTGRES_PASSWORD)
    database=$(setting POSTGRES_DB "$user")
    arguments=$(setting POSTGRES_INITDB_ARGS)
    method=${POSTGRES_HOST_AUTH_METHOD:-}
    if [[ -z $password && $method != trust ]]; then
        fail "no superuser password; set POSTGRES_PASSWORD_FILE"
    fi
    # Split into words on purpose: it is a command line.
    # shellcheck disable=SC2086
    initdb --username="$user" --pwfile=<(printf '%s\n' "$password") ${arguments}
    printf '\nhost all all all %s\n' "${method:-scram-sha-256}" >> "$PGDATA/pg_hba.conf"

    # A first server on the socket alone, with the command line of the real one.
    first=("${@:2}" -c listen_addresses= -p 5432)
    PGUSER=$user pg_ctl -D "$PGDATA" -w -o "$(printf '%q ' "${first[@]}")" start
    export PGPASSWORD=$password
    query=(psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$user" --no-password)
    if [[ $database != postgres ]]; then
        "${query[@]}" --dbname postgres --set db="$database" <<< 'CREATE DATABASE :"db";'
    fi
    query+=(--dbname "$database")
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh) if [[ -x $file ]]; then "$file"; else . "$file"; fi ;;
            *.sql) "${query[@]}" -f "$file" ;;
            *.sql.gz) gunzip -c "$file" | "${query[@]}" ;;
            *) ;;
        esac
    done
    unset PGPASSWORD
    PGUSER=$user pg_ctl -D "$PGDATA" -m fast -w stop
    echo "postgres: the cluster is made"
fi

exec "$@"
