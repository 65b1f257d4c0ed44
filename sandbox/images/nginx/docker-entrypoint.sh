#!/bin/sh
# Runs the scripts of /docker-entrypoint.d before nginx, as the official image does.
set -e
case ${1:-} in
    nginx | nginx-debug)
        for file in /docker-entrypoint.d/*; do
            case $file in
                *.envsh) . "$file" ;;
                *.sh) "$file" ;;
            esac
        done
        ;;
esac
exec "$@"
