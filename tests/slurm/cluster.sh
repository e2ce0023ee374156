#!/usr/bin/env bash
# A Slurm cluster of one machine with two make-believe GPUs, for tests. Debian or Ubuntu, as root.
#
#   tests/slurm/cluster.sh install        slurmctld, slurmd and munge from the distribution
#   tests/slurm/cluster.sh start FOLDER   daemons, configuration and logs live in FOLDER; then: export SLURM_CONF=FOLDER/slurm.conf
#   tests/slurm/cluster.sh stop FOLDER
#
# Partitions: main (default), low (jobs are requeued when main or high want their place), high.
set -euo pipefail

install() {
    apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
}

configure() {
    local folder=$1 host cores
    host=$(hostname -s) cores=$(getconf _NPROCESSORS_ONLN)
    mkdir -p "$folder"/{state,spool}
    for number in 0 1; do
        [ -e "$folder/gpu$number" ] || mknod "$folder/gpu$number" c 1 3
    done
    printf 'Name=gpu File=%s/gpu[0-1]\n' "$folder" >"$folder/gres.conf"
    cat >"$folder/slurm.conf" <<CONF
ClusterName=pag
SlurmctldHost=$host
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=3
SchedulerParameters=bf_interval=2,sched_interval=2
SchedulerTimeSlice=5
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host CPUs=$cores Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=5
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
CONF
}

start() {
    local folder
    folder=$(realpath -m "$1")
    configure "$folder"
    export SLURM_CONF=$folder/slurm.conf
    pgrep -x munged >/dev/null || { mkdir -p /run/munge /var/log/munge /var/lib/munge && chown munge: /run/munge /var/log/munge /var/lib/munge &&
        runuser -u munge -- munged --force; }
    slurmctld -c
    slurmd -c -N "$(hostname -s)"
    for _ in $(seq 60); do
        sinfo --noheader --format %T --partition main 2>/dev/null | grep -q idle && { echo "$SLURM_CONF"; return 0; }
        sleep 1
    done
    tail -n 20 "$folder"/slurm*.log >&2
    return 1
}

stop() {
    local folder=$1
    SLURM_CONF=$folder/slurm.conf scancel --user "$(id -un)" 2>/dev/null || true
    sleep 1
    for daemon in slurmd slurmctld; do
        [ -e "$folder/$daemon.pid" ] && kill "$(cat "$folder/$daemon.pid")" 2>/dev/null || true
    done
}

"$@"
