#!/bin/sh
# Runs OpenBao where this node may write: what it keeps is in PostgreSQL, and so on both nodes and in
# the backups. It unseals itself with a key that each node has. See openbao.hcl for its first start.
set -u
umask 077

here=/etc/overlord/openbao
config=/tmp/openbao.hcl
key=/tmp/seal.key
name=openbao

# Secrets go into files by the shell's own printf, never into a command line.
prepare() {
    # The seal wants 32 bytes, and the secret is a longer text.
    sha256sum /run/secrets/openbao_seal_key | cut -c1-64 | tr -d '\n' >"$key"
    sed "s/TAILNET_ADDRESS/$OPENBAO_MESH_ADDRESS/" "$here/openbao.hcl" >"$config"
    {
        printf '\nstorage "postgresql" {\n'
        printf '  connection_url = "host=%s dbname=openbao user=openbao password=%s"\n' \
            /var/run/postgresql "$(cat /run/secrets/postgres_openbao_password)"
        printf '  ha_enabled = "false"\n  max_parallel = "16"\n}\n'
    } >>"$config"
}

tend() {
    :
}

serve() {
    exec bao server -config="$config"
}

. "$here/while-leader.sh"
