#!/usr/bin/env bash
# What a run over several machines does when cables are pulled, ranks are suspended or killed, and the network is slow:
# does it end with the weights of an undisturbed run (laws L1, L11), and is everybody gone within the limits (L10)?
#
#     tests/benches/cable.sh [FLAGS]   as root, on Linux, with iproute2, after `make build`; a table, exit code 1 if anything failed
#
#   --kills N         SIGKILLs of each joined engine, at pseudo-random moments (10)     --seed N   of these moments (1)
#   --only NAME,...   these cases alone; --list names them                            --json FILE   the table as JSON, one case a line
#   --peer-limit S    of the ranks (10)   --patience S   of all engines (60)   --steps N,M   of pretraining and UniGRPO (60,60)
#   --programs FOLDER where the programs are (target/release)                  --keep   leaves homes and logs, and says where
#   --same-as HASH    the weights to compare with, as an earlier call with the same --steps printed them; absent: a run on one machine
#
# Every node is a network namespace with a host name of its own, on one bridge; all see one file system. One has the daemon,
# two have a rank each, one has a sampling engine. A loop on each node starts its engine again when it ends with another code than
# 0 or 1, as a service manager does. A pulled cable is a port of the bridge that goes down: the node sees it. `down` is the
# node's own interface: it has no route any more. A silent cable drops all packets, and nobody sees it. Each stays so for ten
# seconds after everybody has left, so that engines are started again in vain. The slow link has 400 Mbit/s and 50 ms of delay,
# from a small program between two TAP devices, because not every kernel has netem.
#
# noticed: until the daemon waits for another engine; gone: until the last process of the old world (or the sampling engine) has ended by
# itself, in brackets the limit for it; again: until the first step that was trained after the engines had joined again, counted from the
# moment at which the cable was put back, or at which a stopped process was continued. Seconds.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
all=(undisturbed rank-1-cable rank-1-down rank-0-cable daemon-cable daemon-cable-long sampler-cable rank-1-silent rank-0-silent sampler-silent
  rank-0-stopped rank-1-stopped sampler-stopped rank-0-killed rank-1-killed sampler-killed slow-link)
kills=10 seed=1 only="" json="" limit=10 patience=60 steps=60,60 programs="${DEMASK_PROGRAMS:-$here/../../target/release}" keep="" expected=""

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

wrong() {
  echo "cable.sh: $*; --help says how it is used" >&2
  exit 2
}

while [[ $# -gt 0 ]]; do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --list) printf '%s\n' "${all[@]}"; exit 0 ;;
    --keep) keep=1; shift; continue ;;
    --kills | --seed | --only | --json | --peer-limit | --patience | --steps | --programs | --same-as)
      [[ $# -gt 1 ]] || wrong "$1 needs a value" ;;
    *) wrong "unknown argument $1" ;;
  esac
  case $1 in
    --kills) kills=$2 ;;
    --seed) seed=$2 ;;
    --only) only=$2 ;;
    --json) json=$2 ;;
    --peer-limit) limit=$2 ;;
    --patience) patience=$2 ;;
    --steps) steps=$2 ;;
    --programs) programs=$2 ;;
    --same-as) expected=$2 ;;
  esac
  shift 2
done
for number in "$kills" "$seed" "$limit" "$patience"; do
  [[ $number =~ ^[0-9]+$ ]] || wrong "expected a number, found $number"
done
[[ $steps =~ ^[0-9]+,[0-9]+$ ]] || wrong "--steps $steps: expected two numbers, such as 60,60"
for name in ${only//,/ }; do
  [[ " ${all[*]} " == *" $name "* ]] || wrong "there is no case $name; --list names them"
done
[[ $EUID -eq 0 ]] || wrong "network namespaces need root"
for tool in ip tc unshare; do
  command -v "$tool" > /dev/null || wrong "$tool is not installed (iproute2, util-linux)"
done
programs="$(cd "$programs" && pwd)"
[[ -x $programs/demask && -x $programs/demask-engine ]] || wrong "no demask and demask-engine in $programs; build them with make build"

# Seconds after which anything that is waited for is given up.
longest=900
work="$(mktemp -d)"
ns="dmk$$"
nodes=(daemon rank-0 rank-1 sampler)
declare -A address=([daemon]=10.77.0.1 [rank-0]=10.77.0.10 [rank-1]=10.77.0.11 [sampler]=10.77.0.20)
declare -A manager=()
daemon_pid="" wire_pid="" home="" failures=0 case_name="" remarks=()

clean_up() {
  local status=$?
  end_processes
  local node
  for node in "${nodes[@]}" hub; do ip netns del "$ns-$node" 2> /dev/null || true; done
  if [[ -n $keep ]]; then echo "homes and logs: $work" >&2; else rm -rf "$work"; fi
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# --- times -----------------------------------------------------------------------------------------------------------

now_us() { echo "${EPOCHREALTIME/[!0-9]/}"; }
# Prints the seconds between two moments.
between() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", (b - a) / 1e6 }'; }
is_above() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > b) }'; }
# Prints "median (largest)" of numbers, or the only one.
summary() {
  [[ $# -gt 0 ]] || { echo "-"; return; }
  printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END {
    m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
    if (NR == 1) printf "%.1f", m; else printf "%.1f (%.1f)", m, v[NR] }'
}

# Waits until a command succeeds. It fails after `longest` seconds, or once the run has failed.
until_so() {
  local what=$1 began=$SECONDS
  shift
  until "$@"; do
    if ((SECONDS - began > longest)); then
      note "gave up after $longest s: $what"
      remarks+=("gave up after $longest s: $what")
      return 1
    fi
    sleep 0.2
  done
}

note() { echo "cable.sh: $case_name: $*" >&2; }

# --- network ---------------------------------------------------------------------------------------------------------

inside() { local node=$1; shift; ip netns exec "$ns-$node" "$@"; }

# Gives a node its address, and an end of a cable on the bridge.
attach() {
  local node=$1
  ip -n "$ns-hub" link set "p-$node" master bridge up
  ip -n "$ns-$node" address add "${address[$node]}/24" dev eth0
  ip -n "$ns-$node" link set eth0 up
}

build_network() {
  local node
  ip netns add "$ns-hub"
  ip -n "$ns-hub" link add bridge type bridge
  ip -n "$ns-hub" link set bridge up
  for node in "${nodes[@]}"; do
    ip netns add "$ns-$node"
    ip -n "$ns-$node" link set lo up
    ip -n "$ns-hub" link add "p-$node" type veth peer name eth0 netns "$ns-$node"
    attach "$node"
  done
}

pull() { ip -n "$ns-hub" link set "p-$1" down; }
put_back() { ip -n "$ns-hub" link set "p-$1" up; }
# A node that takes its own interface down has no route to the others either.
take_down() { inside "$1" ip link set eth0 down; }
take_up() { inside "$1" ip link set eth0 up; }
# The discipline `blackhole` takes each packet and drops it without a word.
silence_cable() {
  inside hub tc qdisc replace dev "p-$1" root blackhole
  inside "$1" tc qdisc replace dev eth0 root blackhole
}
end_silence() {
  inside hub tc qdisc del dev "p-$1" root
  inside "$1" tc qdisc del dev eth0 root
}

# Replaces a node's cable by two TAP devices, between which frames wait 50 ms from the node and none to it, so a round
# trip takes 50 ms, and limits both ends to 400 Mbit/s.
slow_cable() {
  local node=$1 end
  cat > "$work/wire.py" << 'PYTHON'
import collections, fcntl, os, select, struct, sys, time

def tap(name):
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))  # TUNSETIFF, IFF_TAP | IFF_NO_PI
    return descriptor

node, hub = tap(sys.argv[1]), tap(sys.argv[2])
delays = {node: (hub, float(sys.argv[3])), hub: (node, 0.0)}
waiting = {node: collections.deque(), hub: collections.deque()}
print("ready", flush=True)
while True:
    dues = [queue[0][0] for queue in waiting.values() if queue]
    ready, _, _ = select.select([node, hub], [], [], max(0.0, min(dues) - time.monotonic()) if dues else None)
    for end in ready:
        try:
            while True:
                waiting[end].append((time.monotonic() + delays[end][1], os.read(end, 65536)))
        except (BlockingIOError, OSError):  # none left, or the device is down
            pass
    for end, queue in waiting.items():
        while queue and queue[0][0] <= time.monotonic():
            try:
                os.write(delays[end][0], queue.popleft()[1])
            except OSError:
                pass
PYTHON
  command -v python3 > /dev/null && [[ -e /dev/net/tun ]] || { note "needs python3 and /dev/net/tun"; return 1; }
  ip -n "$ns-hub" link del "p-$node"
  python3 "$work/wire.py" "${ns}n" "${ns}h" 0.05 > "$work/wire.out" &
  wire_pid=$!
  until_so "two TAP devices" grep -q ready "$work/wire.out"
  ip link set "${ns}n" netns "$ns-$node" name eth0
  ip link set "${ns}h" netns "$ns-hub" name "p-$node"
  attach "$node"
  for end in "hub p-$node" "$node eth0"; do
    inside "${end% *}" tc qdisc add dev "${end#* }" root tbf rate 400mbit burst 512kb latency 100ms
  done
}

# Replaces it by a fast one again.
fast_cable() {
  local node=$1
  [[ -z $wire_pid ]] || { kill "$wire_pid" && wait "$wire_pid" 2> /dev/null || true; }
  wire_pid=""
  ip -n "$ns-hub" link add "p-$node" type veth peer name eth0 netns "$ns-$node"
  attach "$node"
}

# --- processes -------------------------------------------------------------------------------------------------------

# Runs a program on a node, in place of this shell.
on_node() {
  local node=$1
  shift
  exec nice -n 19 ip netns exec "$ns-$node" unshare -u sh -c 'echo "$0" > /proc/sys/kernel/hostname && exec "$@"' "$node" "$@"
}

# A service manager: starts a node's engine, and again when it ends with a code that asks for it. Writes `ends`: a line for each end.
manage() {
  local node=$1 role=train rank="" pid code
  shift
  case $node in
    rank-*) rank=${node#rank-} ;;
    sampler) role=sample ;;
  esac
  while :; do
    (
      if [[ -n $rank ]]; then
        export RANK=$rank WORLD_SIZE=2 MASTER_ADDR=${address[rank-0]} MASTER_PORT=29511
      fi
      on_node "$node" "$programs/demask-engine" --join "$home/join" --role "$role" --device cpu --dtype f32 --threads 1 \
        --peer-limit "$limit" --patience "$patience"
    ) 2>> "$home/$node.log" < /dev/null &
    pid=$!
    echo "$pid" > "$home/$node.pid"
    code=0
    wait "$pid" || code=$?
    echo "$(now_us) $node $pid $code" >> "$home/ends"
    [[ $code -gt 1 && ! -e $home/over ]] || return 0
    sleep 1
  done
}

end_processes() {
  local node pid
  [[ -z $home ]] || touch "$home/over"
  for node in "${!manager[@]}"; do
    pid="$(cat "$home/$node.pid" 2> /dev/null || true)"
    [[ -z $pid ]] || kill -KILL "$pid" 2> /dev/null || true
    kill "${manager[$node]}" 2> /dev/null || true
    wait "${manager[$node]}" 2> /dev/null || true
  done
  manager=()
  for pid in $daemon_pid $wire_pid; do
    kill -KILL "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
  done
  daemon_pid="" wire_pid=""
}

demask() { "$programs/demask" --home "$home" "$@"; }
# Prints one value of the store, or nothing.
value() { demask query --format csv "$1" 2> /dev/null | sed -n 2p || true; }
state() { value "SELECT status FROM v_run LIMIT 1"; }
is_over() { case "$(state)" in done | failed | stopped) true ;; *) false ;; esac; }
# Whether a step was completed after a moment, or the run is over.
has_trained_since() {
  [[ -n "$(value "SELECT 1 FROM v_metric WHERE at_us > $1 AND step > 0 LIMIT 1")" ]] || is_over
}
is_at_step() { [[ "$(value "SELECT coalesce(max(step), 0) FROM v_metric")" -ge $1 ]] || is_over; }
count() { grep -c -- "$1" "$home/daemon.out" || true; }
has_more() { (("$(count "$1")" > $2)) || is_over; }
ends_of() { awk -v node="$1" -v since="$2" '$2 == node && $1 > since { print $1, $4; exit }' "$home/ends"; }
has_ended() { [[ -n "$(ends_of "$1" "$2")" ]]; }

# Starts a daemon on its node, a run that waits for its engines, and the engines.
begin() {
  case_name=$1
  home="$work/$1${2:+-$2}" over_early=0
  took_us=$(($(now_us) - took_us))
  mkdir -p "$home"
  : > "$home/ends"
  (on_node daemon "$programs/demask" --home "$home" daemon start --foreground --listen "${address[daemon]}" --join-file "$home/join") \
    2> "$home/daemon.out" < /dev/null > /dev/null &
  daemon_pid=$!
  until_so "a join file" test -e "$home/join"
  demask run "$work/profile.toml" --headless --detach --from-scratch --set engine.join=true --set rollouts.join=true > /dev/null
  local node
  for node in rank-0 rank-1 sampler; do
    manage "$node" 2> /dev/null &
    manager[$node]=$!
  done
}

pretraining=${steps%,*}
aligning=${steps#*,}
write_profile() {
  sed '/^\[\[stage\]\]/,$d' "$here/../../actors/profiles/smoke.toml" > "$work/profile.toml"
  sed -i 's/^\[engine\]/[engine]\nranks = 2/' "$work/profile.toml"
  cat >> "$work/profile.toml" << TOML
[rollouts]
samplers = 1
staleness = 1
threads = 1

[[stage]]
name = "pretrain"
kind = "pretrain"
steps = $pretraining
batch = 21

[[stage]]
name = "unigrpo"
kind = "align"
steps = $aligning
batch = 3
group = 3
learning_rate = 1e-3
TOML
}

# The hash of the weights of a run's last checkpoint, in the present home.
weights() {
  local folder
  folder="$(find "$home/checkpoints" -name manifest.json -printf '%h\n' | sort | tail -n 1)"
  sha256sum < "$folder/model.safetensors" | cut -c 1-64
}

# The weights of a run whose engines the daemon starts, on one machine.
reference() {
  case_name=reference home="$work/reference"
  mkdir -p "$home"
  nice -n 19 "$programs/demask" --home "$home" run "$work/profile.toml" --headless --from-scratch > "$home/run.out" 2>&1 ||
    { note "the run on one machine failed: $(tail -n 3 "$home/run.out")"; exit 1; }
  demask daemon stop > /dev/null 2>&1 || true
  expected="$(weights)"
}

# --- a case ----------------------------------------------------------------------------------------------------------

noticed=() gone=() again=() remarks=()
allowed=0 over_early=0
# How long a cable stays out after everybody has left, so that engines are started in vain.
linger=0
# How long ranks may take to end: they look at rank 0's signs of life four times within the limit, and once more.
ranks_limit=$((limit * 3 / 2 + 5))
patience_limit=$((patience + 10))

# What the daemon says when it waits for the next engine of a node, and when one has come.
waits_for() { case $1 in sampler) echo "is waiting for a sampling engine" ;; *) echo "is waiting for a world" ;; esac; }
comes() { case $1 in sampler) echo "joined to sample" ;; *) echo "joined to train" ;; esac; }

# Strikes a node with a command, undoes it with another once the daemon has noticed and the engines in $4 have ended,
# which may take $5 seconds, and waits until the run trains again. Fails if the run was over before the daemon noticed.
strike() {
  local node=$1 how=$2 undo=$3 ending=$4 began undone waits joins engine end code took
  allowed=$5
  waits=$(count "$(waits_for "$node")") joins=$(count "$(comes "$node")")
  began=$(now_us)
  $how
  until_so "the daemon notices" has_more "$(waits_for "$node")" "$waits" || { $undo; return 1; }
  if is_over; then
    $undo
    over_early=1
    return 1
  fi
  noticed+=("$(between "$began" "$(now_us)")")
  for engine in $ending; do
    until_so "$engine ends" has_ended "$engine" "$began" || { $undo; return 1; }
    read -r end code <<< "$(ends_of "$engine" "$began")"
    took=$(between "$began" "$end")
    gone+=("$took")
    if is_above "$took" "$allowed"; then remarks+=("$engine ended after $took s, expected at most $allowed"); fi
    case $code in 75 | 137) ;; *) remarks+=("$engine ended with $code") ;; esac
  done
  sleep "$linger"
  undone=$(now_us)
  $undo
  until_so "engines join again" has_more "$(comes "$node")" "$joins" || return 1
  until_so "a step is trained again" has_trained_since "$(now_us)" || return 1
  again+=("$(between "$undone" "$(now_us)")")
}

# Waits until the run is at a step of this stage ("pretrain" or "unigrpo"), and some tenths of a second more.
await_moment() {
  local first=$((pretraining / 6)) room=$((pretraining / 2))
  [[ $1 == pretrain ]] || first=$((pretraining + aligning / 8)) room=$((aligning / 4))
  until_so "a step of $1" is_at_step $((first + RANDOM % (room + 1)))
  pause_a_little
}
pause_a_little() { sleep "0.$((RANDOM % 10))"; }

signal() { kill "-$2" "$(cat "$home/$1.pid")" 2> /dev/null || true; }

# Strikes a node `kills` times with SIGKILL, at most five times in a run: an engine that dies more often than eight times in
# two minutes is given up. A kill that comes too late in a run is not counted.
kill_often() {
  local node=$1 left=$kills round=0 in_this both="rank-0 rank-1" stage=pretrain
  [[ $node != sampler ]] || both=sampler stage=unigrpo
  while ((left > 0 && round < 2 * kills)); do
    round=$((round + 1)) in_this=0
    begin "$node-killed" "$round"
    await_moment "$stage"
    while ((left > 0 && in_this < 5)); do
      strike "$node" "signal $node KILL" true "$both" "$ranks_limit" || break
      left=$((left - 1)) in_this=$((in_this + 1))
      pause_a_little
    done
    finish
  done
  ((left == 0)) || remarks+=("$left of $kills kills came too late; give it more --steps")
}

# A rank or a sampling engine that is suspended, and continued after the others have left.
stop_once() {
  local node=$1 others=rank-1 stage=pretrain began most=$ranks_limit
  case $node in
    rank-1) others=rank-0 ;;
    sampler) others="" stage=unigrpo ;;
  esac
  begin "$node-stopped"
  await_moment "$stage"
  began=$(now_us)
  [[ -n $others ]] || most=0
  if strike "$node" "signal $node STOP" "signal $node CONT" "$others" "$most"; then
    [[ $node == sampler ]] || has_ended "$node" "$began" || remarks+=("$node goes on in its old world")
  fi
  note_early
  finish
}

note_early() { ((over_early == 0)) || remarks+=("the run was over before it noticed; give it more --steps"); }

# A cable that is pulled or silent, until the engines in $4 have ended.
cut_once() {
  local name=$1 node=$2 how=$3 ending=$4 most=$5 undo=put_back stage=pretrain
  case $how in
    silence_cable) undo=end_silence ;;
    take_down) undo=take_up ;;
  esac
  [[ $node != sampler ]] || stage=unigrpo
  begin "$name"
  await_moment "$stage"
  linger=10
  strike "$node" "$how $node" "$undo $node" "$ending" "$most" || true
  linger=0
  note_early
  finish
}

run_case() {
  local both="rank-0 rank-1"
  case $1 in
    undisturbed) begin "$1"; finish ;;
    rank-1-cable) cut_once "$1" rank-1 pull "$both" "$ranks_limit" ;;
    rank-1-down) cut_once "$1" rank-1 take_down "$both" "$ranks_limit" ;;
    rank-0-cable) cut_once "$1" rank-0 pull "$both" "$patience_limit" ;;
    daemon-cable) cut_once "$1" daemon pull "" 0 ;;
    daemon-cable-long) cut_once "$1" daemon pull "$both sampler" "$patience_limit" ;;
    sampler-cable) cut_once "$1" sampler pull sampler "$patience_limit" ;;
    rank-1-silent) cut_once "$1" rank-1 silence_cable "$both" "$ranks_limit" ;;
    rank-0-silent) cut_once "$1" rank-0 silence_cable "$both" "$patience_limit" ;;
    sampler-silent) cut_once "$1" sampler silence_cable "" 0 ;;
    *-stopped) stop_once "${1%-stopped}" ;;
    *-killed) kill_often "${1%-killed}" ;;
    slow-link)
      slow_cable rank-1 || { failures=$((failures + 1)); return 0; }
      begin "$1"
      finish
      fast_cable rank-1
      ;;
  esac
}

# Waits for the end of the run, and compares.
finish() {
  local hash="" node code ended
  until_so "the run ends" is_over || true
  ended=$(state)
  if [[ $ended == "done" ]]; then
    # An engine that was struck at the end of the run is started again and finds no work.
    for node in "${!manager[@]}"; do
      ((over_early == 0)) || continue
      until_so "the engine of $node leaves" has_left "$node" || true
      code=$(awk -v node="$node" '$2 == node { code = $4 } END { print code }' "$home/ends")
      [[ $code == 0 ]] || remarks+=("the engine of $node left with ${code:-nothing} at the end")
    done
    hash=$(weights)
    [[ $hash == "$expected" ]] || remarks+=("other weights: $hash")
  else
    remarks+=("the run is ${ended:-not there}: $(value "SELECT reason FROM v_run LIMIT 1")")
  fi
  kill -TERM "$daemon_pid"
  code=0
  wait "$daemon_pid" || code=$?
  daemon_pid=""
  [[ $code == 0 ]] || remarks+=("the daemon ended with $code at SIGTERM")
  took_us=$(($(now_us) - took_us))
  end_processes
  [[ $hash == "$expected" ]] || same=no
}
has_left() { ! kill -0 "${manager[$1]}" 2> /dev/null; }

table='%-18s %-8s %-14s %-14s %-8s %-14s %-8s %s\n'
heading() {
  # shellcheck disable=SC2059 # the format is a constant
  printf "$table" case weights noticed gone "[limit]" again run verdict
}

# Prints the row of a case, and adds it to the file of --json.
report() {
  local verdict=ok
  if ((${#remarks[@]} > 0)); then
    verdict="FAILED: $(printf '%s; ' "${remarks[@]}")"
    failures=$((failures + 1))
  fi
  # shellcheck disable=SC2059
  printf "$table" "$1" "$([[ $same == yes ]] && echo same || echo OTHER)" "$(summary "${noticed[@]}")" "$(summary "${gone[@]}")" \
    "$( ((allowed > 0)) && echo "[$allowed]" || echo -)" "$(summary "${again[@]}")" "$(between 0 "$took_us")" "$verdict"
  [[ -n $json ]] || return 0
  local list
  list() { local IFS=,; echo "[$*]"; }
  printf '{"case":"%s","same_weights":%s,"noticed":%s,"gone":%s,"limit":%s,"again":%s,"seconds":%s,"verdict":"%s"}\n' "$1" \
    "$([[ $same == yes ]] && echo true || echo false)" "$(list "${noticed[@]}")" "$(list "${gone[@]}")" "$( ((allowed > 0)) && echo "$allowed" || echo null)" \
    "$(list "${again[@]}")" "$(between 0 "$took_us")" "$(tr -d '"\\\n' <<< "$verdict")" >> "$json"
}

[[ -z $json ]] || : > "$json"
RANDOM=$seed
write_profile
[[ -n $expected ]] || reference
build_network
echo "one machine: $expected"
heading
for name in "${all[@]}"; do
  [[ -z $only || ",$only," == *",$name,"* ]] || continue
  noticed=() gone=() again=() remarks=() allowed=0 same=yes took_us=0
  run_case "$name"
  report "$name"
done
((failures == 0)) || { echo "cable.sh: $failures failed; --keep leaves the logs" >&2; exit 1; }
