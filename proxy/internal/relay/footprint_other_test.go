//go:build !linux

package relay

func actAsChild() bool { return false }
