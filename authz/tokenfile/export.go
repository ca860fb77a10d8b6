package tokenfile

import "bytes"

// Export calls write with the line of each entry of the file at path whose id or device the
// pattern matches, see [Edit.Match]; an empty pattern matches all. A line is a JSON object without
// the line end, and valid until write returns. It holds the hashes of tokens and passwords, and the
// credentials for the broker as they are.
func Export(path, pattern string, write func(line []byte) error) error {
	return eachEntry(path, selects(pattern), func(_ *entry, _ int, line []byte) error {
		return write(bytes.TrimSpace(line))
	})
}
