//go:build !linux

package vfs

// Map implements [Mapper].
func (f *osFile) Map(int64) (Mapping, error) { return nil, errMapped(f.name) }
