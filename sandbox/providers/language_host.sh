#!/bin/sh
# pulumi-language-python of the sandbox: starts language_host.py, which lies beside this file,
# with the Python of the project's virtual environment.
here=$(dirname "$(readlink -f "$0")")

# The option `virtualenv` under `runtime` in the Pulumi.yaml of this folder or one above.
project_virtualenv() {
    folder=$PWD
    while [ "$folder" != / ]; do
        for name in Pulumi.yaml Pulumi.yml; do
            if [ -f "$folder/$name" ]; then
                found=$(sed -n 's/^ *virtualenv: *["'\'']\{0,1\}\([^"'\''#]*[^"'\''# ]\).*$/\1/p' "$folder/$name" | head -n 1)
                case $found in
                    '') for found in .venv venv; do
                            [ -x "$folder/$found/bin/python" ] && echo "$folder/$found" && return
                        done ;;
                    /*) echo "$found" ;;
                    *) echo "$folder/$found" ;;
                esac
                return
            fi
        done
        folder=$(dirname "$folder")
    done
}

virtualenv=${PULUMI_RUNTIME_VIRTUALENV:-$(project_virtualenv)}
if [ -z "$virtualenv" ]; then
    exec "${PULUMI_PYTHON_CMD:-python3}" -u "$here/language_host.py" "$@"
fi
if [ ! -x "$virtualenv/bin/python" ]; then
    echo "$virtualenv is not a virtual environment: make it with 'python3 -m venv $virtualenv'" \
        "and install requirements.txt into it, or set PULUMI_RUNTIME_VIRTUALENV" >&2
    exit 1
fi
VIRTUAL_ENV=$(cd "$virtualenv" && pwd)
PATH=$VIRTUAL_ENV/bin:$PATH
export VIRTUAL_ENV PATH
unset PYTHONHOME
exec "$VIRTUAL_ENV/bin/python" -u "$here/language_host.py" "$@"
