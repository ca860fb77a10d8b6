package config

import (
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config/schema"
)

// Memory is the memory limit of the process. The zero value is "off".
type Memory struct {
	// Auto means the limit that the system sets.
	Auto bool
	// Size is in bytes; 0 without Auto means no limit.
	Size int64
}

// String returns the bound as it is written in a config file.
func (m Memory) String() string {
	switch {
	case m.Auto:
		return "auto"
	case m.Size == 0:
		return "off"
	}
	return schema.FormatSize(m.Size)
}

// minMemory is the smallest limit with which the program can work, in bytes.
const minMemory = 32 << 20

func parseMemory(text string) (any, error) {
	switch text {
	case "auto":
		return Memory{Auto: true}, nil
	case "off":
		return Memory{}, nil
	}
	switch size, err := schema.ParseSize(text); {
	case err != nil:
		return nil, fmt.Errorf("%s is neither auto, off nor a size such as 512MiB", schema.Quote(text))
	case size < minMemory:
		return nil, fmt.Errorf("%s is too little to work with; use at least %s", schema.Quote(text), schema.FormatSize(minMemory))
	default:
		return Memory{Size: size}, nil
	}
}
