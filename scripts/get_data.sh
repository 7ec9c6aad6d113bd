#!/usr/bin/env bash
# Downloads the real data sets from their official addresses, checks them, and lays them out as --data-dir expects.
set -euo pipefail

program=get_data.sh
known_sets="mnist fashion-mnist cifar10 cifar100 svhn svhn-extra"

usage() {
    cat <<EOF
Usage: $program [OPTIONS] SET...

Downloads data sets into DIR (give it to the programs as --data-dir). SET is one or more of
  mnist          12 MB   DIR/mnist/
  fashion-mnist  31 MB   DIR/fashion-mnist/
  cifar10       170 MB   DIR/cifar-10/
  cifar100      168 MB   DIR/cifar-100/
  svhn          246 MB   DIR/svhn/ (training and test images)
  svhn-extra    1.3 GB   DIR/svhn/extra_32x32.mat
  all           everything except svhn-extra

Options:
  --dir DIR         where to (default: data)
  --base-url URL    take URL/SET-FOLDER/FILE instead of the official addresses: a mirror, http://..., or file:///...
                    (also: environment variable BITLOOM_DATA_URL)
  --checksums FILE  MD5 sums of the mirror's files, lines of "SUM  SET-FOLDER/FILE" as md5sum writes them, instead of the
                    official ones (also: BITLOOM_DATA_CHECKSUMS)
  --help            this text

Files already there and complete are kept; broken downloads are resumed. Needs curl or wget, md5sum, and tar for CIFAR.
EOF
}

fail() {
    echo "$program: $*" >&2
    exit 1
}

usage_error() {
    echo "$program: $* (see --help)" >&2
    exit 2
}

# Each line: set, folder, file, MD5, official addresses (tried in order).
catalogue() {
    local mnist="https://ossci-datasets.s3.amazonaws.com/mnist http://yann.lecun.com/exdb/mnist"
    local fashion="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
    local cifar="https://www.cs.toronto.edu/~kriz"
    local svhn="http://ufldl.stanford.edu/housenumbers"
    cat <<EOF
mnist mnist train-images-idx3-ubyte.gz f68b3c2dcbeaaa9fbdd348bbdeb94873 $mnist
mnist mnist train-labels-idx1-ubyte.gz d53e105ee54ea40749a09fcbcd1e9432 $mnist
mnist mnist t10k-images-idx3-ubyte.gz 9fb629c4189551a2d022fa330f9573f3 $mnist
mnist mnist t10k-labels-idx1-ubyte.gz ec29112dd5afa0611ce80d1b7f02629c $mnist
fashion-mnist fashion-mnist train-images-idx3-ubyte.gz 8d4fb7e6c68d591d4c3dfef9ec88bf0d $fashion
fashion-mnist fashion-mnist train-labels-idx1-ubyte.gz 25c81989df183df01b3e8a0aad5dffbe $fashion
fashion-mnist fashion-mnist t10k-images-idx3-ubyte.gz bef4ecab320f06d8554ea6380940ec79 $fashion
fashion-mnist fashion-mnist t10k-labels-idx1-ubyte.gz bb300cfdad3c16e7a12a480ee83cd310 $fashion
cifar10 cifar-10 cifar-10-binary.tar.gz c32a1d4ab5d03f1284b67883e8d87530 $cifar
cifar100 cifar-100 cifar-100-binary.tar.gz 03b5dce01913d631647c71ecec9e9cb8 $cifar
svhn svhn train_32x32.mat e26dedcc434d2e4c54c9b2d4a06d8373 $svhn
svhn svhn test_32x32.mat eb5a983be6a315427106f1b164d9cef3 $svhn
svhn-extra svhn extra_32x32.mat a93ce644f1a588dc4d68dda5feec44a7 $svhn
EOF
}

md5_of() {
    md5sum -- "$1" | cut -d' ' -f1
}

# transfer URL FILE: continues FILE where it breaks off. Prints the tool's complaint on failure; status 33 means that the file
# cannot be continued, because the server sends no ranges or FILE does not begin the one it has.
transfer() {
    local url=$1 file=$2 text status=0
    if command -v curl >/dev/null; then
        text=$(curl --fail --location --silent --show-error --retry 3 --connect-timeout 20 --continue-at - \
            --output "$file" -- "$url" 2>&1) || status=$?
        # 36: bad offset; 22 with 416: nothing follows the offset.
        [[ $status -eq 36 || ($status -eq 22 && $text == *416*) ]] && status=33
    elif [[ $url == file://* ]]; then  # wget does not read files
        text=$(cp -- "${url#file://}" "$file" 2>&1) || status=$?
    else
        text=$(wget --no-verbose --tries=3 --connect-timeout=20 --continue --output-document="$file" -- "$url" 2>&1) || status=$?
        [[ $status -ne 0 && $text == *"conflicts with"* ]] && status=33
    fi
    [[ $status -eq 0 ]] || echo "${text:-the download failed}"
    return "$status"
}

# download TARGET SUM URL...: leaves TARGET complete and verified, or fails.
download() {
    local target=$1 sum=$2 part=$1.part reason="" url
    shift 2
    if [[ -f $target ]]; then
        if [[ $(md5_of "$target") == "$sum" ]]; then
            echo "kept $target"
            return
        fi
        echo "$target is damaged, downloading it again"
    fi
    for url in "$@"; do
        local status got
        # A second time, from the beginning, where a broken download cannot be continued or turns out to be another file.
        for _ in first again; do
            local resumed=false
            [[ -s $part ]] && resumed=true
            status=0
            if ! $resumed || [[ $(md5_of "$part") != "$sum" ]]; then reason=$(transfer "$url" "$part") || status=$?; fi
            if [[ $status -eq 0 ]]; then
                got=$(md5_of "$part")
                if [[ $got == "$sum" ]]; then
                    mv -f -- "$part" "$target"
                    echo "downloaded $target"
                    return
                fi
                reason="MD5 is $got, expected $sum"
            elif [[ $status -ne 33 ]]; then
                break  # the network's or the server's fault: what has arrived is kept for the next run
            fi
            rm -f -- "$part"
            $resumed || break
        done
        reason="$url: ${reason//$'\n'/ }"
    done
    fail "${reason:-no address for $target}"
}

# unpack ARCHIVE FOLDER SUM: the archive's .bin files into FOLDER, all or nothing; the stamp tells later runs.
unpack() {
    local archive=$1 folder=$2 sum=$3 temporary=$2.unpacking
    rm -rf -- "$temporary"
    mkdir -- "$temporary"
    tar -xzf "$archive" -C "$temporary" --strip-components=1 2>/dev/null || fail "$archive: cannot be unpacked"
    echo "$sum" >"$temporary/.complete"
    mkdir -p -- "$folder"
    find "$temporary" -mindepth 1 -maxdepth 1 ! -name .complete -exec mv -f -t "$folder" -- {} +
    mv -f -- "$temporary/.complete" "$folder/.complete"
    rm -rf -- "$temporary" "$archive"
    echo "unpacked $folder"
}

directory=data
base_url=${BITLOOM_DATA_URL:-}
checksums=${BITLOOM_DATA_CHECKSUMS:-}
sets=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --dir | --base-url | --checksums)
            [[ $# -ge 2 && -n $2 ]] || usage_error "$1 needs a value"
            case $1 in
                --dir) directory=$2 ;;
                --base-url) base_url=$2 ;;
                --checksums) checksums=$2 ;;
            esac
            shift ;;
        -*) usage_error "unknown option $1" ;;
        all) sets+=(mnist fashion-mnist cifar10 cifar100 svhn) ;;
        *)
            [[ " $known_sets " == *" $1 "* ]] || usage_error "unknown data set $1; known: $known_sets all"
            sets+=("$1") ;;
    esac
    shift
done
[[ ${#sets[@]} -gt 0 ]] || usage_error "name at least one data set: $known_sets all"
[[ -z $checksums || -r $checksums ]] || fail "$checksums: cannot be read"
command -v md5sum >/dev/null || fail "md5sum is missing (package coreutils)"
command -v curl >/dev/null || command -v wget >/dev/null || fail "neither curl nor wget is installed (apt-get install curl)"

for wanted in "${sets[@]}"; do
    while read -r set folder file sum addresses; do
        [[ $set == "$wanted" ]] || continue
        if [[ -n $checksums ]]; then
            sum=$(awk -v name="$folder/$file" '$2 == name || $2 == "*" name { print $1; exit }' "$checksums")
            [[ -n $sum ]] || fail "$checksums: has no sum of $folder/$file"
        fi
        urls=()
        if [[ -n $base_url ]]; then
            urls=("${base_url%/}/$folder/$file")
        else
            for address in $addresses; do urls+=("$address/$file"); done
        fi
        mkdir -p -- "$directory/$folder" 2>/dev/null || fail "$directory/$folder: cannot be made"
        [[ -w $directory/$folder ]] || fail "$directory/$folder: cannot be written to"
        if [[ $file == *.tar.gz ]]; then
            if [[ -f $directory/$folder/.complete && $(<"$directory/$folder/.complete") == "$sum" ]]; then
                echo "kept $directory/$folder"
                continue
            fi
            command -v tar >/dev/null || fail "tar is missing"
            download "$directory/$file" "$sum" "${urls[@]}"
            unpack "$directory/$file" "$directory/$folder" "$sum"
        else
            download "$directory/$folder/$file" "$sum" "${urls[@]}"
        fi
    done < <(catalogue)
done
