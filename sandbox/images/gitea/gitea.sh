#!/bin/sh
# The program behind the name that the official image gives it.
exec /app/gitea/gitea "$@"
