#!/bin/sh
# Makes fsfreeze-deadman the freeze hook of this guest's QEMU guest agent. Run as root inside the guest; run again to
# change a setting or to upgrade: it says what it changed and what was already so.
#
#   install.sh [--limit SECONDS] [--on-failure refuse|allow] [--hooks|--no-hooks] [--no-restart] [--root FOLDER]
#   install.sh --uninstall [--no-restart] [--root FOLDER]
#
# --limit       how long the guest may stay frozen before it thaws itself (default 120)
# --on-failure  what happens to a freeze that no timer could guard: refuse it (default) or allow it
# --hooks       install the hooks of hooks/, too: databases are made ready before each freeze (docs/databases.md). They
#               stay, and are upgraded, when this is run again without; --no-hooks takes them away
# --no-restart  leave the agent running as it is; the hook is used from its next start on
# --root        install into the tree of an image that is not running; implies --no-restart
set -u
umask 022

root=''
limit=''
on_failure=''
restart=yes
uninstall=no
hooks=as-is
source=$(dirname -- "$0")/fsfreeze-deadman
default_hook=/etc/qemu/fsfreeze-hook # what `qemu-ga -F` means when it names nothing

die() {
  echo "install.sh: $1" >&2
  exit 1
}

say() { echo "$*"; }

while [ $# -gt 0 ]; do
  case "$1" in
    --limit | --on-failure | --root)
      [ $# -ge 2 ] || die "$1 needs a value"
      case "$1" in --limit) limit=$2 ;; --on-failure) on_failure=$2 ;; --root) root=${2%/} restart=no ;; esac
      shift
      ;;
    --no-restart) restart=no ;;
    --uninstall) uninstall=yes hooks=no ;;
    --hooks) hooks=yes ;;
    --no-hooks) hooks=no ;;
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"
      exit 0
      ;;
    *) die "unknown option $1; see --help" ;;
  esac
  shift
done
case "$limit" in *[!0-9]* | 0*) die "--limit $limit is not a number of seconds" ;; esac
case "$on_failure" in '' | refuse | allow) ;; *) die "--on-failure is refuse or allow" ;; esac
[ -n "$root" ] || [ "$(id -u)" = 0 ] || die "run this as root"

config=$root/etc/fsfreeze-deadman.conf
agent_config=$root/etc/qemu/qemu-ga.conf
sysconfig=$root/etc/sysconfig/qemu-ga
program=/usr/local/sbin/fsfreeze-deadman
hooks_source=$(dirname -- "$0")/hooks
hooks_folder=/usr/local/lib/fsfreeze-hooks
hooks_program=$hooks_folder/fsfreeze-hooks
hooks_config=$root/etc/fsfreeze-hooks.conf
hooks_link=$root/usr/local/sbin/fsfreeze-hooks
earlier_hook=$root$hooks_folder/hooks.d/05-earlier # what the agent called before; the hooks call it first

# -- what is there -----------------------------------------------------------------------------------------------------

family() { # debian, alpine, rhel or unknown; sets $family
  family=unknown
  words=
  while IFS='=' read -r key value; do
    value=${value#\"}
    case "$key" in ID | ID_LIKE) words="$words ${value%\"} " ;; esac
  done 2>/dev/null <"$root/etc/os-release"
  case "$words" in
    *' debian '* | *' ubuntu '*) family=debian ;;
    *' alpine '*) family=alpine ;;
    *' rhel '* | *' fedora '* | *' centos '*) family=rhel ;;
  esac
}

how_to_install() { # how_to_install AGENT|FSFREEZE
  case "$family-$1" in
    debian-agent) echo "apt install qemu-guest-agent" ;;
    alpine-agent) echo "apk add qemu-guest-agent && rc-update add qemu-guest-agent default" ;;
    rhel-agent) echo "dnf install qemu-guest-agent" ;;
    alpine-fsfreeze) echo "apk add util-linux-misc" ;;
    *) echo "install the package that holds it" ;;
  esac
}

one_of() { # one_of PATH...: print the first that exists in the tree
  for path; do
    if [ -e "$root$path" ]; then
      echo "$path"
      return 0
    fi
  done
  return 1
}

setting() { # setting FILE KEY: print the value of the last KEY=value, without quotes
  sed -n "s/^[[:space:]]*$2[[:space:]]*=[[:space:]]*//p" "$1" 2>/dev/null | sed -n '$p' | tr -d "\"'"
}

hook_on_command_line() { # the agent's -F, which outranks its configuration file; prints a path, fails without one
  flag=
  for file in "$root/usr/lib/systemd/system/qemu-guest-agent.service" \
    "$root/lib/systemd/system/qemu-guest-agent.service" "$root/etc/systemd/system/qemu-guest-agent.service" \
    "$root/etc/systemd/system/qemu-guest-agent.service.d"/*.conf \
    "$root/etc/default/qemu-guest-agent" "$root/etc/conf.d/qemu-guest-agent"; do
    [ -f "$file" ] || continue
    found=$(sed -n -e '/^[[:space:]]*#/d' -e "s/[\"']/ /g" -e 's/--fsfreeze-hook[= ]/-F/' \
      -e 's/.*[[:space:]]\(-F[^[:space:]]*\).*/\1/p' "$file" | sed -n '$p')
    [ -z "$found" ] || flag=$found
  done
  case "$flag" in
    '') return 1 ;;
    -F) echo "$default_hook" ;;
    *FSFREEZE_HOOK_PATHNAME*)
      path=$(setting "$sysconfig" FSFREEZE_HOOK_PATHNAME)
      echo "${path:-$default_hook}"
      ;;
    *) echo "${flag#-F}" ;;
  esac
}

# -- changes -----------------------------------------------------------------------------------------------------------

put() { # put FILE MODE: standard input becomes the file, in one step; says whether that changed anything
  mkdir -p "$(dirname "$1")" || die "cannot make the folder of $1"
  { cat >"$1.new" && chmod "$2" "$1.new"; } || die "cannot write $1"
  if [ -f "$1" ] && cmp -s "$1" "$1.new"; then
    rm -f "$1.new"
    say "unchanged  $1"
  else
    mv -f "$1.new" "$1" || die "cannot write $1"
    say "wrote      $1"
  fi
}

drop() { # drop FILE
  [ -e "$1" ] || [ -L "$1" ] || return 0
  rm -f "$1" && say "removed    $1"
}

agent_hook() { # agent_hook PATH: make it the hook of the agent's configuration file; empty: no hook
  if [ -f "$agent_config" ]; then cat "$agent_config"; else echo '[general]'; fi | awk -v hook="$1" '
    /^[[:space:]]*fsfreeze-hook[[:space:]]*=/ { next }
    { print }
    /^\[general\]/ { seen = 1; if (hook != "") print "fsfreeze-hook=" hook }
    END { if (!seen && hook != "") print "[general]\nfsfreeze-hook=" hook }
  ' | put "$agent_config" 644
  # Nothing but what this script once wrote itself.
  [ -n "$1" ] || [ "$(cat "$agent_config")" != '[general]' ] || drop "$agent_config"
}

restart_agent() {
  if [ "$restart" = no ]; then
    say "the agent uses this from its next start on"
    return 0
  fi
  if [ -d /run/systemd/system ]; then
    systemctl try-restart qemu-guest-agent.service
  elif command -v rc-service >/dev/null 2>&1; then
    rc-service --ifstarted qemu-guest-agent restart
  elif command -v service >/dev/null 2>&1; then
    service qemu-guest-agent restart
  else
    false
  fi || die "could not restart the agent; do it yourself, the hook is used from then on"
  say "restarted  qemu-guest-agent"
}

not_now() { # a restart of a frozen guest's agent would leave the thaw to the timer
  [ -z "$root" ] || return 0
  for file in "$program" "${dropin:-}"; do
    [ -x "$file" ] || continue
    case $("$file" status) in armed* | fired*) die "a freeze window is open in this guest; run this again later" ;; esac
  done
}

selinux() { # what an enforcing SELinux does to the hook, and the two commands that mend it
  command -v getenforce >/dev/null 2>&1 && [ "$(getenforce)" = Enforcing ] || return 0
  command -v restorecon >/dev/null 2>&1 && restorecon -F "$installed"
  case $(getsebool virt_qemu_ga_run_unconfined 2>/dev/null) in
    *on) ;;
    *)
      say "SELinux    is enforcing: the agent may not mount or thaw through a hook until you run"
      say "             setsebool -P virt_qemu_ga_run_unconfined on"
      ;;
  esac
  case $(ls -Z "$installed" 2>/dev/null) in
    *virt_qemu_ga_unconfined_exec_t*) ;;
    *)
      say "SELinux    and until the hook has the label that this applies to:"
      say "             semanage fcontext -a -t virt_qemu_ga_unconfined_exec_t $installed && restorecon -F $installed"
      ;;
  esac
}

install_hooks() {
  [ -f "$hooks_source/fsfreeze-hooks" ] || die "the folder hooks must stand beside this script"
  for file in fsfreeze-hooks hook-lib; do
    case "$file" in *-lib) mode=644 ;; *) mode=755 ;; esac
    put "$root$hooks_folder/$file" "$mode" <"$hooks_source/$file"
  done
  for file in "$hooks_source"/hooks.d/[0-9]*; do
    put "$root$hooks_folder/hooks.d/${file##*/}" 755 <"$file"
  done
  mkdir -p "$root/usr/local/sbin" && ln -sf "$hooks_program" "$hooks_link"
  if [ ! -f "$hooks_config" ]; then
    put "$hooks_config" 600 <<END
# Read by fsfreeze-hooks at every freeze; docs/databases.md has the rest. KEY=value, no quotes.
# All hooks together, in seconds: below the host's freeze_timeout_seconds (25), which the freeze itself needs too.
TOTAL_SECONDS=15
# How long a lock may be held: longer than the host's max_window_seconds (30).
LOCK_SECONDS=35
# A hook that fails: refuse the freeze, or allow it. Of one hook: ON_FAILURE_mariadb=allow.
ON_FAILURE=refuse
END
  fi
}

remove_hooks() { # what an administrator has put beside ours stays
  for file in "$root$hooks_folder"/hooks.d/*; do
    [ -f "$hooks_source/hooks.d/${file##*/}" ] && drop "$file"
  done
  drop "$earlier_hook"
  for file in "$root$hooks_program" "$root$hooks_folder/hook-lib" "$hooks_link" "$hooks_config"; do drop "$file"; done
  rmdir "$root$hooks_folder/hooks.d" "$root$hooks_folder" 2>/dev/null
  [ -n "$root" ] || [ -L /run/fsfreeze-hooks ] || rm -rf /run/fsfreeze-hooks
}

# -- the two jobs ------------------------------------------------------------------------------------------------------

family
on_line=$(hook_on_command_line) || on_line=
dropin=
hooks_dropin=
# A dispatcher runs every script of the folder beside it.
if [ -n "$on_line" ] && [ -d "$root$on_line.d" ]; then
  dropin=$root$on_line.d/zz-fsfreeze-deadman
  hooks_dropin=$root$on_line.d/yy-fsfreeze-hooks
fi
[ "$hooks" != as-is ] || [ ! -e "$root$hooks_program" ] || hooks=yes
next=$(setting "$config" NEXT)
[ "$next" != "$hooks_program" ] || next=$(readlink "$earlier_hook")

if [ "$uninstall" = yes ]; then
  not_now
  [ -z "$dropin" ] || drop "$dropin"
  if [ "$(setting "$agent_config" fsfreeze-hook)" = "$program" ]; then
    agent_hook "$next"
  fi
  drop "$root$program"
  drop "$config"
  [ -z "$hooks_dropin" ] || drop "$hooks_dropin"
  remove_hooks
  restart_agent
  if [ -z "$root" ]; then
    for home in /run/fsfreeze-deadman /dev/shm/fsfreeze-deadman; do
      { [ -f "$home/ready" ] && [ ! -L "$home" ]; } || continue
      umount "$home" 2>/dev/null
      rm -rf "$home" && say "removed    $home"
    done
  fi
  exit 0
fi

[ -f "$source" ] || die "fsfreeze-deadman must stand beside this script"
agent=$(one_of /usr/sbin/qemu-ga /usr/bin/qemu-ga /usr/local/bin/qemu-ga) ||
  die "there is no qemu-ga in this guest; run: $(how_to_install agent)"
one_of /usr/sbin/fsfreeze /sbin/fsfreeze /usr/bin/fsfreeze /bin/fsfreeze >/dev/null ||
  die "there is no fsfreeze in this guest; run: $(how_to_install fsfreeze)"
not_now

if [ -n "$dropin" ]; then
  installed=$dropin
  next=
  say "found      family $family, agent $agent, which runs the scripts of $on_line.d"
  say "note       the dispatcher ignores their exit status: a freeze without a timer is not refused, only reported"
elif [ -n "$on_line" ] && [ "$on_line" != "$program" ]; then
  die "the agent is started with -F$on_line, which outranks its configuration; call $program from there, or take -F away"
else
  installed=$root$program
  earlier=$(setting "$agent_config" fsfreeze-hook)
  case "$earlier" in '' | "$program") ;; *) next=$earlier ;; esac
  say "found      family $family, agent $agent, its hook so far: ${next:-none}"
fi

if [ "$hooks" = yes ]; then
  install_hooks
  if [ -n "$hooks_dropin" ]; then
    ln -sf "$hooks_program" "$hooks_dropin"
  else
    if [ -n "$next" ]; then ln -sf "$next" "$earlier_hook"; else drop "$earlier_hook"; fi
    next=$hooks_program
  fi
elif [ "$hooks" = no ]; then
  [ -z "$hooks_dropin" ] || drop "$hooks_dropin"
  remove_hooks
fi
put "$installed" 755 <"$source"
[ -z "$dropin" ] || { mkdir -p "$root/usr/local/sbin" && ln -sf "${dropin#"$root"}" "$root$program"; }
limit=${limit:-$(setting "$config" LIMIT)}
on_failure=${on_failure:-$(setting "$config" ON_FAILURE)}
put "$config" 644 <<END
# Read by fsfreeze-deadman at every freeze. KEY=value, no quotes.
# Seconds that the guest may stay frozen before it thaws itself: longer than the longest window you want to keep.
LIMIT=${limit:-120}
# A freeze that no timer could guard: refuse or allow.
ON_FAILURE=${on_failure:-refuse}
# The hook that the agent had before; called first.
NEXT=$next
END
[ -n "$dropin" ] || agent_hook "$program"
if [ -z "$root" ]; then
  { "$installed" prepare && "$installed" selftest; } || die "the timer cannot run here"
  selinux
  if [ "$hooks" = yes ] && ! "$hooks_program" selftest; then
    say "note       a hook fails now; unless that changes, or is allowed in $hooks_config, a freeze is refused"
  fi
fi
restart_agent
if [ -z "$root" ] && [ -z "$dropin" ] && ! "$agent" --dump-conf 2>/dev/null | grep -q "^fsfreeze-hook=$program$"; then
  die "$agent does not read $agent_config (see: $agent --dump-conf); give it -F$program yourself"
fi
say "installed  the guest thaws itself after ${limit:-120} s without a thaw; see: $program status"
