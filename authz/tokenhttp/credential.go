package tokenhttp

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/clienttls"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

const (
	// recheckFiles is how often the files of a credential are read again.
	recheckFiles = time.Second
	// maxFile is the maximum size of such a file in bytes.
	maxFile = 64 << 10
)

// watch returns a value that is parsed from files, and parsed again when they change. Errors
// name the files.
func watch[T any](parse func(contents [][]byte) (T, error), paths ...string) (*files.Watched[T], error) {
	return files.Watch(files.Parsed[T]{Paths: paths, Limit: maxFile, Parse: func(contents [][]byte) (T, error) {
		value, err := parse(contents)
		if err != nil {
			err = fmt.Errorf("%s: %w", strings.Join(paths, ", "), err)
		}
		return value, err
	}}, recheckFiles)
}

// secretText reads a file that contains one line.
func secretText(contents [][]byte) (string, error) {
	text := strings.TrimRight(string(contents[0]), "\r\n")
	switch {
	case text == "":
		return "", errors.New("the file is empty; write the secret into it")
	case inHeader.rejects(text) != "":
		return "", errors.New("the secret " + inHeader.rejects(text))
	}
	return text, nil
}

func bearerText(contents [][]byte) (string, error) {
	text, err := secretText(contents)
	return "Bearer " + text, err
}

func basicText(contents [][]byte) (string, error) {
	text, err := secretText(contents)
	if err == nil && !strings.Contains(text, ":") {
		err = errors.New("write user:password into it")
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)), err
}

// keyPair returns the client certificate. The error contains nothing of the files.
func keyPair(contents [][]byte) (*tls.Certificate, error) {
	return clienttls.KeyPair(contents[0], contents[1])
}
