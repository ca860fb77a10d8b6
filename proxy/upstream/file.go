package upstream

import (
	"errors"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// readFile returns the content of a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	content, _, err := files.Read(path, limit)
	switch {
	case errors.Is(err, files.ErrNotRegular):
		return nil, fmt.Errorf("%s is not a regular file", path)
	case errors.Is(err, files.ErrTooLarge):
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return content, err
}
