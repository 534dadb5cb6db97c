#!/bin/sh
# Makes the chains that the tests of l7-proxy's `tls/chain.rs` judge, and the sealed keys of `tls/key.rs`.
# Needs openssl 3; the results are kept beside this script, good for a century.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

cat > "$work/conf" <<'END'
[req]
distinguished_name = none
[none]
[authority]
basicConstraints = critical,CA:TRUE
[short]
basicConstraints = critical,CA:TRUE,pathlen:0
[silent]
basicConstraints = critical,CA:TRUE
keyUsage = critical,cRLSign
[narrow]
basicConstraints = critical,CA:TRUE
nameConstraints = critical,permitted;DNS:inside.example
[plain]
basicConstraints = CA:FALSE
[inside]
subjectAltName = DNS:a.inside.example
[outside]
subjectAltName = DNS:a.outside.example
[server]
extendedKeyUsage = serverAuth
[beyond]
1.2.3.4 = critical,ASN1:NULL
[ca]
default_ca = list
[list]
database = list
default_md = sha256
END

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$work/$1.key"; }
root() { # NAME SUBJECT SECTION
    key "$1"
    openssl req -x509 -new -config "$work/conf" -extensions "$3" -key "$work/$1.key" -subj "/CN=$2" \
        -days 36500 -out "$1.pem"
}
sign() { # NAME ISSUER [SECTION [DAYS]]
    key "$1"
    openssl req -new -config "$work/conf" -key "$work/$1.key" -subj "/CN=$1" -out "$work/csr"
    openssl x509 -req -in "$work/csr" -CA "$2.pem" -CAkey "$work/$2.key" -days "${4:-36500}" \
        -set_serial "$(od -An -N8 -tu8 /dev/urandom | tr -d ' ')" \
        ${3:+-extfile "$work/conf" -extensions "$3"} -out "$1.pem" 2>/dev/null
}
good="-crldays 36500"
list() { # FILE ISSUER REVOKED...
    name=$1 issuer=$2
    shift 2
    : > "$work/list"
    for revoked; do
        (cd "$work" && openssl ca -config conf -keyfile "$issuer.key" -cert "$OLDPWD/$issuer.pem" \
            -revoke "$OLDPWD/$revoked.pem" 2>/dev/null)
    done
    (cd "$work" && openssl ca -config conf -gencrl -keyfile "$issuer.key" -cert "$OLDPWD/$issuer.pem" \
        $good 2>/dev/null) > "$name.crl"
}

root root root authority
root impostor root authority
root alone alone plain
key old
openssl req -new -config "$work/conf" -key "$work/old.key" -subj /CN=old -out "$work/csr"
openssl x509 -req -in "$work/csr" -signkey "$work/old.key" -days 36500 -out old.pem 2>/dev/null
sign one root authority
sign two one authority
sign end two plain
sign under-one one plain
sign under-root root plain
sign first root
sign under-old old
sign authority-end root authority
sign short root short
sign under-short short plain
sign two-short short authority
sign under-two-short two-short plain
sign under-plain under-root plain
sign silent root silent
sign under-silent silent plain
sign narrow root narrow
sign inside narrow inside
sign outside narrow outside
sign server root server
sign beyond root beyond
sign expired root plain 0
list root root
list root-revoked root under-root one
list one one
good="-crlsec 1"
list root-old root

for kind in aes128 aes256 des3; do
    openssl ec -in "$work/root.key" -out "old-$kind.key" "-$kind" -passout pass:secret 2>/dev/null
done
for kind in aes-128-cbc aes-256-cbc des-ede3-cbc; do
    openssl pkcs8 -topk8 -in "$work/root.key" -v2 "$kind" -passout pass:secret -out "pkcs8-$kind.key"
done
openssl pkcs8 -topk8 -in "$work/root.key" -v2 aes-256-cbc -v2prf hmacWithSHA1 -passout pass:secret \
    -out pkcs8-sha1.key
openssl pkcs8 -topk8 -in "$work/root.key" -scrypt -scrypt_N 1024 -passout pass:secret -out pkcs8-scrypt.key
openssl pkcs8 -topk8 -in "$work/root.key" -nocrypt -out open.key
