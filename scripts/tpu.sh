#!/bin/bash
# Creates a Cloud TPU (one VM or a slice of several), trains on it, and deletes it.
#
# Example: NAME=gopro ZONE=us-west4-a TYPE=v5litepod-16 scripts/tpu.sh create
#
# Actions, each for all workers of the TPU, and with the same NAME and ZONE:
#   create        creates the TPU, which costs money from then on
#   install       copies the commit that is checked out here, and installs it
#   run ARG...    train.py with these arguments; continues the run of the working directory
#   stop          SIGTERM: `run` saves and ends. Ctrl-C here leaves the training running there
#   fetch FOLDER  copies a folder of worker 0, such as runs/gopro, into the current one
#   delete        deletes the TPU with its disks
# The working directory of a slice lies in a bucket (gs://BUCKET/PATH), which the service account of
# the TPU can write to, or on a file system that all workers share. Variables:
#   NAME     name of the TPU
#   ZONE     its zone
#   TYPE     accelerator type (create)
#   VERSION  runtime version (create; default: that of Google's table for TYPE)
#   SPOT     1: cheaper, may be taken away at any time; then delete, create, install, run (create)
#   QUEUED   1: by a queued resource, which waits for a free TPU (create and delete)
#   WAIT     seconds between two looks at the queue (create; default: 30)
# The project is that of gcloud (or CLOUDSDK_CORE_PROJECT).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
    echo "error: $1" >&2
    exit 1
}

on_all_workers() {
    gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"
}

create() {
    : "${TYPE:?set TYPE, such as v5litepod-8}"
    local version="${VERSION:-}"
    if [ -z "$version" ]; then # https://cloud.google.com/tpu/docs/runtimes
        case "$TYPE" in
        v6e-*) version=v2-alpha-tpuv6e ;;
        v5p-*) version=v2-alpha-tpuv5 ;;
        v5litepod-*) version=v2-alpha-tpuv5-lite ;;
        v2-* | v3-* | v4-*) version=tpu-ubuntu2204-base ;;
        *) fail "set VERSION, the runtime version for $TYPE" ;;
        esac
    fi
    if [ -z "${QUEUED:-}" ]; then
        gcloud compute tpus tpu-vm create "$NAME" --zone="$ZONE" --accelerator-type="$TYPE" \
            --version="$version" ${SPOT:+--spot}
        return
    fi
    gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
        --accelerator-type="$TYPE" --runtime-version="$version" ${SPOT:+--spot}
    local state=""
    while [ "$state" != ACTIVE ]; do
        state=$(gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" \
            --format="value(state.state)")
        echo "queued resource $NAME: $state"
        case "$state" in
        ACTIVE) ;;
        FAILED | SUSPENDING | SUSPENDED) fail "the request ended; delete it and create it again" ;;
        *) sleep "${WAIT:-30}" ;;
        esac
    done
}

install() {
    git -C "$root" diff --quiet HEAD || fail "the TPU gets a commit; commit your changes first"
    local folder
    folder=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder is known now
    trap "rm -rf '$folder'" EXIT
    git -C "$root" archive --format=tar.gz --output="$folder/lcdnet_jax.tar.gz" HEAD
    gcloud compute tpus tpu-vm scp "$folder/lcdnet_jax.tar.gz" "$NAME:" --zone="$ZONE" --worker=all
    # The Python of these VMs is older than 3.11; uv brings one.
    on_all_workers "mkdir -p lcdnet_jax && tar -xzf lcdnet_jax.tar.gz -C lcdnet_jax &&
        cd lcdnet_jax && python3 -m pip install --quiet --user uv &&
        python3 -m uv venv --quiet --allow-existing --python 3.12 &&
        python3 -m uv pip install --quiet --editable '.[train,tpu,gcs]'"
}

run() {
    [ $# -gt 0 ] || fail "give the arguments of train.py"
    local arguments
    printf -v arguments " %q" "$@"
    on_all_workers "cd lcdnet_jax && JAX_PLATFORMS=tpu,cpu exec .venv/bin/python train.py --distributed=on$arguments"
}

action="${1:-}"
[ $# -eq 0 ] || shift
case "$action" in
create | install | run | stop | fetch | delete) ;;
*) fail "unknown action '$action'; give create, install, run, stop, fetch or delete" ;;
esac
: "${NAME:?set NAME, the name of the TPU}" "${ZONE:?set ZONE, such as us-west4-a}"

case "$action" in
stop) on_all_workers "pkill -TERM -f '[t]rain[.]py'" ;; # the brackets: not this shell itself
fetch)
    gcloud compute tpus tpu-vm scp --recurse "$NAME:lcdnet_jax/${1:?give a folder}" . \
        --zone="$ZONE" --worker=0
    ;;
delete)
    if [ -n "${QUEUED:-}" ]; then
        gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet
    else
        gcloud compute tpus tpu-vm delete "$NAME" --zone="$ZONE" --quiet
    fi
    ;;
*) "$action" "$@" ;;
esac
