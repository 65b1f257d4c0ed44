#!/bin/sh
# Builds the stand-in plugins and installs them with the Python language host into a folder
# that is to be on PATH when pulumi runs. Does nothing where the folder is up to date.
#
#   build.sh BINDIR [NAME...]
#
# Without names, all four stand-ins are linked. Pulumi prefers a plugin on PATH, so name only
# those whose official plugin cannot be installed.
set -eu
bindir=${1:?usage: build.sh BINDIR [NAME...]}
shift
[ $# -gt 0 ] || set -- hcloud cloudflare tailscale command
cd "$(dirname "$0")"
mkdir -p "$bindir"
bindir=$(cd "$bindir" && pwd)

# install SOURCE NAME [MODE]: a rename, since a running copy must not be written to.
install_file() {
    if ! cmp -s "$1" "$bindir/$2"; then
        cp "$1" "$bindir/.$2.new"
        chmod "${3:-755}" "$bindir/.$2.new"
        mv "$bindir/.$2.new" "$bindir/$2"
    fi
}

CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$bindir/.overlord-providers.new" .
mv "$bindir/.overlord-providers.new" "$bindir/overlord-providers"
for name in "$@"; do
    # A file of this name that is not our link is the official plugin: it stays.
    link=$bindir/pulumi-resource-$name
    if [ ! -e "$link" ] || [ -L "$link" ]; then
        ln -sfn overlord-providers "$link"
    fi
done

ln -sfn overlord-providers "$bindir/pulumi-language-python"
rm -f "$bindir/language_host.py" # of an earlier build

# Programs and dynamic providers are run by the SDK itself; its starters lie in the Go module.
sdk=$(go list -m -f '{{.Dir}}' github.com/pulumi/pulumi/sdk/v3)
install_file "$sdk/python/cmd/pulumi-language-python-exec" pulumi-language-python-exec
install_file "$sdk/python/dist/pulumi-resource-pulumi-python" pulumi-resource-pulumi-python
