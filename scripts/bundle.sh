#!/usr/bin/env bash
# Copies programs and the shared libraries that they need into a folder that runs on machines without the packages.
# Called by ./bitloom bundle; the programs look for libraries in ../lib beside them (RPATH, third_party/cmake).
set -euo pipefail

usage() {
    cat <<HELP
bundle.sh OUT BIN_FOLDER [--no-cuda-libraries] [--tar] PROGRAM...

Makes OUT/bin with the programs, OUT/lib with their libraries. What every Linux has stays out (the C library, the loader),
and so does NVIDIA's driver. --no-cuda-libraries leaves out CUDA's (cuBLAS, cuDNN: several hundred MB), for machines
that have them; --tar packs the folder into OUT.tar.gz.
HELP
}
die() {
    printf 'bundle: %s\n' "$*" >&2
    exit 1
}

cuda_libraries=1 tar='' arguments=()
for argument in "$@"; do
    case $argument in
        --no-cuda-libraries) cuda_libraries='' ;;
        --tar) tar=1 ;;
        -h | --help) usage && exit 0 ;;
        -*) printf 'bundle: unknown option %s\n' "$argument" >&2 && usage >&2 && exit 2 ;;
        *) arguments+=("$argument") ;;
    esac
done
((${#arguments[@]} >= 3)) || { usage >&2 && exit 2; }
out=${arguments[0]} bin=${arguments[1]}
[[ ! -e $out || -e $out/bin ]] || die "$out is there and is no bundle"

rm -rf -- "$out"
mkdir -p -- "$out/bin" "$out/lib" || die "cannot create $out"

# Of glibc; a newer loader does not work with another machine's older library, so all of it is the machine's own.
machine_own='^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|nsl|anl|mvec))\.so'
cuda_own='^lib(cublas|cublasLt|cudnn|cudart|nvJitLink|nvrtc).*\.so'
copy_library() {
    local path=$1 name
    name=$(basename -- "$path")
    [[ ! $name =~ $machine_own && $name != libcuda.so* && ! -e $out/lib/$name ]] || return 0
    [[ $cuda_libraries || ! $name =~ $cuda_own ]] || return 0
    cp -L -- "$path" "$out/lib/$name"
}

for program in "${arguments[@]:2}"; do
    [[ -x $bin/$program ]] || die "there is no program $bin/$program"
    cp -- "$bin/$program" "$out/bin/"
    libraries=$(ldd "$bin/$program") || die "ldd fails on $program"
    missing=$(awk '/not found/ { print $1 }' <<<"$libraries")
    [[ -z $missing ]] || die "$program needs $missing, which is not there"
    while read -r path; do
        copy_library "$path"
        # cuDNN opens its parts by name when it needs them.
        if [[ $(basename -- "$path") == libcudnn.so.* ]]; then
            for part in "$(dirname -- "$path")"/libcudnn_*.so.[0-9]*; do copy_library "$part"; done
        fi
    done < <(awk '$2 == "=>" && $3 ~ /^\// { print $3 }' <<<"$libraries")
done
strip --strip-unneeded -- "$out"/bin/*

if [[ $tar ]]; then
    tar -C "$(dirname -- "$out")" -czf "$out.tar.gz" "$(basename -- "$out")"
    printf '%s\n' "$out.tar.gz"
else
    printf '%s\n' "$out"
fi
