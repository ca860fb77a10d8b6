package config

import "fmt"

// Memory bounds what the process may take. The zero value is "off".
type Memory struct {
	// Auto means whatever the system allows.
	Auto bool
	// Size is in bytes; 0 without Auto means no bound.
	Size int64
}

// String returns it as it is written in a config file.
func (m Memory) String() string {
	switch {
	case m.Auto:
		return "auto"
	case m.Size == 0:
		return "off"
	}
	return formatSize(m.Size)
}

// minMemory is the least that a bound makes sense with, in bytes.
const minMemory = 32 << 20

func parseMemory(text string) (any, error) {
	switch text {
	case "auto":
		return Memory{Auto: true}, nil
	case "off":
		return Memory{}, nil
	}
	size, err := parseSize(text)
	switch n, _ := size.(int64); {
	case err != nil:
		return nil, fmt.Errorf("%s is neither auto, off nor a size such as 512MiB", quote(text))
	case n < minMemory:
		return nil, fmt.Errorf("%s is too little to work with; use at least %s", quote(text), formatSize(minMemory))
	default:
		return Memory{Size: n}, nil
	}
}
