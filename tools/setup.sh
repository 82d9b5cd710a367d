#!/usr/bin/env bash
# Makes .venv from the hashed lock. As root on Debian it also installs what the local backend and the tests need.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "Serai needs Python 3.11 or newer as python3. On Debian 12: apt-get install python3 python3-venv" >&2
  exit 1
fi

# An interrupted set-up leaves an environment without pip; so does a python3 that went away.
whole() { .venv/bin/python -m pip --version >/dev/null 2>&1; }
can_make_venv() { python3 -c 'import ensurepip' 2>/dev/null; }

missing=()
command -v bwrap >/dev/null || missing+=(bubblewrap)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
command -v chromium >/dev/null || missing+=(chromium)
command -v Xvfb >/dev/null || missing+=(xvfb)
command -v x11vnc >/dev/null || missing+=(x11vnc)
whole || can_make_venv || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Debian packages: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
  else
    echo "Not installed here: ${missing[*]}. Ask an administrator: apt-get install ${missing[*]}" >&2
    for package in "${missing[@]}"; do
      case $package in
        bubblewrap) echo "Without bubblewrap no job can run." >&2 ;;
        postgresql) echo "Without postgresql its tests are skipped by name." >&2 ;;
        chromium) echo "Without chromium the tests in a browser are skipped by name." >&2 ;;
        xvfb | x11vnc) echo "Without $package the tests of desktops are skipped by name." >&2 ;;
        python3-venv) echo "Without python3-venv the environment .venv cannot be made; nothing was set up." >&2 ;;
      esac
    done
  fi
fi

if whole; then
  echo "bringing .venv up to date with the lock"
else
  can_make_venv || exit 1
  echo "making .venv from the lock; one to three minutes"
  python3 -m venv --clear .venv
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
# What is missing it says itself; the console then goes without.
.venv/bin/python tools/vendor.py || true
echo "ready: .venv/bin/serai"
