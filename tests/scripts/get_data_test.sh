#!/usr/bin/env bash
# Tests scripts/get_data.sh against local files and, where python3 is installed, a local web server. Prints what failed.
set -uo pipefail

if ! command -v curl >/dev/null && ! command -v wget >/dev/null; then
    echo "skipped: neither curl nor wget is installed"
    exit 77
fi
script=$(cd "$(dirname "$0")/../../scripts" && pwd)/get_data.sh
work=$(mktemp -d)
server=
cleanup() {
    [[ -n $server ]] && kill "$server" 2>/dev/null
    rm -rf -- "$work"
}
trap cleanup EXIT
cd "$work" || exit 1
unset BITLOOM_DATA_URL BITLOOM_DATA_CHECKSUMS
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
failures=0

expect() {  # expect WORDS CONDITION...: the condition is a command
    local words=$1
    shift
    if ! "$@"; then
        echo "FAILED: $words"
        sed 's/^/    /' output
        failures=$((failures + 1))
    fi
}
run() { "$script" "$@" >output 2>&1; status=$?; }
status_is() { [[ $status -eq $1 ]]; }
says() { grep -qF -- "$1" output; }
lines_are() { [[ $(wc -l <output) -eq $1 ]]; }

# A mirror with small files of its own.
mkdir -p mirror/{mnist,fashion-mnist,cifar-10,cifar-100,svhn} tree/cifar-10-batches-bin tree/cifar-100-binary
for set in mnist fashion-mnist; do
    for file in train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do
        head -c 20000 /dev/urandom | gzip >"mirror/$set/$file.gz"
    done
done
for i in 1 2 3 4 5; do head -c 3073 /dev/urandom >"tree/cifar-10-batches-bin/data_batch_$i.bin"; done
head -c 3073 /dev/urandom >tree/cifar-10-batches-bin/test_batch.bin
for name in train test; do head -c 3074 /dev/urandom >"tree/cifar-100-binary/$name.bin"; done
tar -czf mirror/cifar-10/cifar-10-binary.tar.gz -C tree cifar-10-batches-bin
tar -czf mirror/cifar-100/cifar-100-binary.tar.gz -C tree cifar-100-binary
for name in train test extra; do head -c 30000 /dev/urandom >"mirror/svhn/${name}_32x32.mat"; done
(cd mirror && find . -type f -printf '%P\n' | xargs md5sum) >sums
from_files=(--base-url "file://$work/mirror" --checksums sums --dir data)

run --help
expect "--help exits with 0" status_is 0
expect "--help names the sets" says svhn-extra
run
expect "no set is a usage error" status_is 2
run imagenet
expect "an unknown set is a usage error" status_is 2
expect "an unknown set is one line" lines_are 1
run --frobnicate mnist
expect "an unknown option is a usage error" status_is 2
run --dir
expect "a missing value is a usage error" status_is 2

run "${from_files[@]}" all
expect "all is downloaded" status_is 0
expect "MNIST arrives whole" cmp -s mirror/mnist/train-images-idx3-ubyte.gz data/mnist/train-images-idx3-ubyte.gz
expect "CIFAR-10 is unpacked" cmp -s tree/cifar-10-batches-bin/data_batch_5.bin data/cifar-10/data_batch_5.bin
expect "CIFAR-100 is unpacked" cmp -s tree/cifar-100-binary/test.bin data/cifar-100/test.bin
expect "SVHN arrives" cmp -s mirror/svhn/test_32x32.mat data/svhn/test_32x32.mat
expect "extra is left out of all" test ! -e data/svhn/extra_32x32.mat
expect "nothing half-done is left" test -z "$(find data -name '*.part' -o -name '*.tar.gz' -o -name '*.unpacking')"

# The mirror is gone: what is complete is kept without asking.
mv mirror hidden
run "${from_files[@]}" all
expect "complete files are kept" status_is 0
expect "kept files are named" says "kept data/mnist/train-images-idx3-ubyte.gz"
run "${from_files[@]}" svhn-extra
expect "a missing file is an error" status_is 1
expect "a missing file is one line" lines_are 1
expect "a missing file is named" says extra_32x32.mat
mv hidden mirror

# A damaged file is replaced, the others are kept.
printf x | dd of=data/svhn/train_32x32.mat bs=1 seek=100 conv=notrunc 2>/dev/null
run "${from_files[@]}" svhn
expect "a damaged file is replaced" cmp -s mirror/svhn/train_32x32.mat data/svhn/train_32x32.mat
expect "its neighbour is kept" says "kept data/svhn/test_32x32.mat"

# A broken download goes on where it stopped; one that holds something else is begun anew.
head -c 7000 mirror/svhn/extra_32x32.mat >data/svhn/extra_32x32.mat.part
run "${from_files[@]}" svhn-extra
expect "a broken download is completed" cmp -s mirror/svhn/extra_32x32.mat data/svhn/extra_32x32.mat
rm data/svhn/extra_32x32.mat
head -c 7000 /dev/urandom >data/svhn/extra_32x32.mat.part
run "${from_files[@]}" svhn-extra
expect "a wrong beginning is thrown away" cmp -s mirror/svhn/extra_32x32.mat data/svhn/extra_32x32.mat
rm data/svhn/extra_32x32.mat
cp mirror/svhn/extra_32x32.mat data/svhn/extra_32x32.mat.part
run "${from_files[@]}" svhn-extra
expect "a complete .part is taken as it is" status_is 0

# What does not have the official sum is refused, and nothing of it stays.
run --base-url "file://$work/mirror" --dir fresh mnist
expect "a wrong checksum is an error" status_is 1
expect "a wrong checksum is one line" lines_are 1
expect "a wrong checksum is explained" says "expected f68b3c2dcbeaaa9fbdd348bbdeb94873"
expect "a refused file does not stay" test -z "$(find fresh -type f)"
run --base-url "file://$work/mirror" --checksums /nonexistent --dir fresh mnist
expect "missing checksums are an error" says "/nonexistent: cannot be read"
BITLOOM_DATA_URL="file://$work/mirror" BITLOOM_DATA_CHECKSUMS=sums run --dir by-environment fashion-mnist
expect "the environment names the mirror" status_is 0
touch file-in-the-way
run "${from_files[@]:0:4}" --dir file-in-the-way mnist
expect "an impossible folder is one line" lines_are 1
expect "an impossible folder is an error" status_is 1

if command -v python3 >/dev/null; then
    python3 -u -m http.server --bind 127.0.0.1 --directory mirror 0 >server.log 2>&1 &
    server=$!
    # However long a busy machine takes to start it: it says its port, or it ends.
    port=
    while [[ -z $port ]] && kill -0 "$server" 2>/dev/null; do
        sleep 0.1
        port=$(sed -n 's/.*port \([0-9]*\).*/\1/p' server.log)
    done
    from_web=(--base-url "http://127.0.0.1:$port/" --checksums sums --dir web)
    run "${from_web[@]}" cifar10 svhn
    expect "a web server delivers" status_is 0
    expect "CIFAR-10 from the web" cmp -s tree/cifar-10-batches-bin/test_batch.bin web/cifar-10/test_batch.bin
    # This server knows no ranges: the broken download is begun anew.
    head -c 7000 mirror/svhn/extra_32x32.mat >web/svhn/extra_32x32.mat.part
    run "${from_web[@]}" svhn-extra
    expect "without ranges the download starts over" cmp -s mirror/svhn/extra_32x32.mat web/svhn/extra_32x32.mat
    # Without curl, wget does the same.
    mkdir tools
    for tool in /bin/* /usr/bin/*; do [[ ${tool##*/} == curl ]] || ln -sf "$tool" tools/; done
    if command -v wget >/dev/null; then
        PATH=$work/tools run "${from_web[@]:0:4}" --dir wgot mnist
        expect "wget delivers" cmp -s mirror/mnist/t10k-images-idx3-ubyte.gz wgot/mnist/t10k-images-idx3-ubyte.gz
        mkdir -p wgot/svhn
        head -c 7000 mirror/svhn/extra_32x32.mat >wgot/svhn/extra_32x32.mat.part
        PATH=$work/tools run "${from_web[@]:0:4}" --dir wgot svhn-extra
        expect "wget starts over without ranges" cmp -s mirror/svhn/extra_32x32.mat wgot/svhn/extra_32x32.mat
        PATH=$work/tools run "${from_web[@]:0:2}" --dir wgot svhn
        expect "wget's official sums are held against the file" says "expected e26dedcc434d2e4c54c9b2d4a06d8373"
    fi
    rm tools/wget
    PATH=$work/tools run "${from_web[@]}" mnist
    expect "neither curl nor wget is one line" says "neither curl nor wget"
    mv mirror/cifar-100 mirror/elsewhere
    run "${from_web[@]}" cifar100
    expect "404 is an error" status_is 1
    expect "404 is one line" lines_are 1
    kill "$server" && wait "$server" 2>/dev/null
    server=
    rm web/svhn/extra_32x32.mat
    head -c 7000 mirror/svhn/extra_32x32.mat >web/svhn/extra_32x32.mat.part
    run "${from_web[@]}" svhn-extra
    expect "no server is an error" status_is 1
    expect "no server is one line" lines_are 1
    expect "what has arrived is kept when the server is gone" test "$(wc -c <web/svhn/extra_32x32.mat.part)" -eq 7000
else
    echo "skipped the web server: python3 is not installed"
fi

if [[ $failures -gt 0 ]]; then
    echo "$failures checks failed"
    exit 1
fi
echo "get_data.sh: all checks passed"
