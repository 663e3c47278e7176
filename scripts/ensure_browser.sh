#!/usr/bin/env bash
# Make sure a Chromium-family browser is there for the browser tests.
# Found: says so. Missing: installed with the system's package manager when that needs no password, else explained.
# Exit status 0 unless CI=true and there is still no browser: outside CI the browser tests then skip, with the reason.
set -u

find_browser() {
  local name
  for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
    [ -n "$name" ] && command -v "$name" && return 0
  done
  return 1
}

if found=$(find_browser); then
  echo "Browser for the tests: $found"
  exit 0
fi

if [ "$(id -u)" = 0 ]; then
  echo "No Chromium found; installing it with the system's package manager ..."
  if command -v apt-get >/dev/null; then
    apt-get update -qq
    # Ubuntu's own `chromium` is a snap stub; there the test below tells.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
  elif command -v dnf >/dev/null; then
    dnf install -y -q chromium
  elif command -v apk >/dev/null; then
    apk add --quiet chromium font-dejavu
  elif command -v pacman >/dev/null; then
    pacman -Sy --noconfirm --quiet chromium
  fi
  if found=$(find_browser); then
    echo "Browser for the tests: $found"
    exit 0
  fi
fi

cat >&2 <<'TEXT'
No Chromium or Chrome was found, and it could not be installed from here.
The browser tests need one. Install it (Debian: apt install chromium; macOS: brew install --cask chromium),
or name an executable: CHROMIUM=/path/to/chrome make test
TEXT
[ "${CI:-}" = true ] && exit 1
echo "The browser tests will be skipped." >&2
exit 0
