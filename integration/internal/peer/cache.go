package peer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Versions of the foreign programs; the POMs and package.json say the same.
const (
	RocketMQ  = "5.3.3"
	RocketMQ4 = "4.9.8"
	Starter   = "2.3.4"
	AliOns    = "3.12.0"
)

// Cache is the folder of foreign programs.
type Cache struct {
	dir    string // of the cache
	source string // the folder integration of this checkout
}

// OpenCache uses $SLUICE_INTEROP_CACHE, or .cache inside the folder integration.
func OpenCache(source string) (Cache, error) {
	dir := os.Getenv("SLUICE_INTEROP_CACHE")
	if dir == "" {
		dir = filepath.Join(source, ".cache")
	}
	c := Cache{dir: dir, source: source}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return c, fmt.Errorf("make the cache folder: %w", err)
	}
	return c, nil
}

// fill makes a folder of the cache complete or not at all: it is made beside its
// place and moved there.
func (c Cache) fill(name string, make func(dir string) error) (string, error) {
	place := filepath.Join(c.dir, name)
	if _, err := os.Stat(place); err == nil {
		return place, nil
	}
	temporary, err := os.MkdirTemp(c.dir, "filling-")
	if err != nil {
		return "", fmt.Errorf("fill %s: %w", name, err)
	}
	defer os.RemoveAll(temporary)
	if err := make(temporary); err != nil {
		return "", fmt.Errorf("fill %s: %w", name, err)
	}
	if err := os.Chmod(temporary, 0o755); err != nil {
		return "", fmt.Errorf("fill %s: %w", name, err)
	}
	if err := os.Rename(temporary, place); err != nil {
		if _, there := os.Stat(place); there == nil { // another test was faster
			return place, nil
		}
		return "", fmt.Errorf("fill %s: %w", name, err)
	}
	return place, nil
}

func run(dir string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// jars copies the dependencies of a POM, or of one of its profiles.
func (c Cache) jars(name, pom, profile string) (string, error) {
	return c.fill(name, func(dir string) error {
		args := []string{"-q", "-B", "-f", filepath.Join(c.source, "java", pom), "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=" + dir}
		if profile != "" {
			args = append(args, "-P", profile)
		}
		return run(c.source, "mvn", args...)
	})
}

// Server is the folder of the jars of Apache's servers and tools.
func (c Cache) Server() (string, error) { return c.jars("rocketmq-"+RocketMQ, "pom.xml", "server") }

// Program is a Java program of this project, compiled, with its class path.
type Program struct{ Classes, Jars, Main string }

// Driver5 drives the newest client.
func (c Cache) Driver5() (Program, error) {
	return c.program("rocketmq-client-"+RocketMQ, "pom.xml", "client", "interop.Driver", "driver", "driver-5")
}

// Driver4 drives the last client of the 4.x line.
func (c Cache) Driver4() (Program, error) {
	return c.program("rocketmq-client-"+RocketMQ4, "pom.xml", "client-4", "interop.Driver", "driver", "driver-4")
}

// Admin runs mqadmin's commands.
func (c Cache) Admin() (Program, error) {
	return c.program("rocketmq-"+RocketMQ, "pom.xml", "server", "interop.Admin", "tools", "driver/interop/Out.java", "driver/interop/Command.java")
}

// Spring is the Spring Boot service.
func (c Cache) Spring() (Program, error) {
	return c.program("rocketmq-spring-"+Starter, "spring/pom.xml", "", "interop.Service", "spring", "driver-5",
		"driver/interop/Out.java", "driver/interop/Command.java", "driver/interop/Facts.java")
}

// program compiles sources, files or whole folders below java, against jars. Its
// folder is keyed by what is in them.
func (c Cache) program(jars, pom, profile, class string, sources ...string) (Program, error) {
	lib, err := c.jars(jars, pom, profile)
	if err != nil {
		return Program{}, err
	}
	var files []string
	key := sha256.New()
	for _, s := range sources {
		s = filepath.Join(c.source, "java", s)
		if filepath.Ext(s) != ".java" {
			inside, err := filepath.Glob(filepath.Join(s, "interop", "*.java"))
			if err != nil {
				return Program{}, fmt.Errorf("list the sources of %s: %w", class, err)
			}
			files = append(files, inside...)
			continue
		}
		files = append(files, s)
	}
	slices.Sort(files)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return Program{}, fmt.Errorf("read the sources of %s: %w", class, err)
		}
		fmt.Fprintf(key, "%s %d\n%s", f, len(b), b)
	}
	name := strings.ToLower(strings.TrimPrefix(class, "interop.")) + "-" + jars + "-" + hex.EncodeToString(key.Sum(nil))[:12]
	classes, err := c.fill(name, func(dir string) error {
		return run(dir, "javac", append([]string{"-nowarn", "-parameters", "-encoding", "UTF-8", "-cp", filepath.Join(lib, "*"), "-d", dir}, files...)...)
	})
	return Program{Classes: classes, Jars: lib, Main: class}, err
}

// Node is a folder with the Node driver and what it needs.
func (c Cache) Node() (string, error) {
	return c.fill("ali-ons-"+AliOns, func(dir string) error {
		for _, name := range []string{"package.json", "package-lock.json"} {
			b, err := os.ReadFile(filepath.Join(c.source, "node", name))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				return err
			}
		}
		return run(dir, "npm", "ci", "--no-audit", "--no-fund", "--silent")
	})
}
