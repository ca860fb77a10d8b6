package service

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// inputs are the files from which a generation was made and that are not watched otherwise,
// with digests of their content. They do not include the files that the hash of the
// configuration covers, and those that the part that uses them reads again: certificates, token
// files, and the keys and credentials of token sources.
type inputs map[string][sha256.Size]byte

// add records the content of a file. It must be called before the file is parsed, so that a
// change in between is noticed.
func (in inputs) add(path string) {
	if path != "" {
		in[path] = digest(path)
	}
}

// changed reports whether the content of a file has changed. A missing file counts as changed.
func (in inputs) changed() bool {
	for path, sum := range in {
		if digest(path) != sum {
			return true
		}
	}
	return false
}

// sum returns a digest of the current contents.
func (in inputs) sum() string {
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(in)) {
		now := digest(path)
		h.Write(now[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// digest returns the digest of a regular file. It returns the zero value for anything else, and
// for a file that cannot be read.
func digest(path string) (sum [sha256.Size]byte) {
	const most = 16 << 20
	content, _, err := files.Read(path, most)
	if err != nil {
		return sum
	}
	return files.Sum(content)
}
