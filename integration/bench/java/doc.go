// Package java runs Java: it finds the packages of Apache RocketMQ, makes
// commands with the flags that its classes need, and drives Apache's client.
package java

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sluicemq/sluice/integration/bench/internal/peer"
)

const (
	// version of Apache RocketMQ, servers and client.
	version = "5.3.3"
	// cacheVariable names a folder for packages; without it they are kept in
	// the repository, where git does not see them.
	cacheVariable = "SLUICE_INTEROP_CACHE"
	moduleName    = "github.com/sluicemq/sluice"
)

// flags open what RocketMQ reaches into and Java 17 closes.
var flags = []string{
	"--add-exports=java.base/sun.nio.ch=ALL-UNNAMED", "--add-opens=java.base/java.nio=ALL-UNNAMED",
	"--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED",
}

// Module is the folder of the repository's main module.
func Module(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", moduleName).Output()
	if err != nil {
		return "", fmt.Errorf("find the main module from the folder of this one: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Packages answers the folder of RocketMQ's packages; the first call on a
// machine has Maven fetch them. Without Java or Maven the error is
// [peer.ErrMissing].
func Packages(ctx context.Context) (string, error) {
	for _, program := range []string{"java", "javac"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("%w: %w", peer.ErrMissing, err)
		}
	}
	module, err := Module(ctx)
	if err != nil {
		return "", err
	}
	cache := os.Getenv(cacheVariable)
	if cache == "" {
		cache = filepath.Join(module, "integration", ".cache")
	}
	dir := filepath.Join(cache, "rocketmq-"+version)
	if complete(dir) {
		return dir, nil
	}
	return dir, fetch(ctx, module, dir)
}

// fetch has Maven copy the packages. They appear under their name when all are
// there.
func fetch(ctx context.Context, module, dir string) error {
	maven, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("%w: %w", peer.ErrMissing, err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make cache folder: %w", err)
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), "part-")
	if err != nil {
		return fmt.Errorf("make cache folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(part) }()
	cmd := exec.CommandContext(ctx, maven, "-q", "-B", "-f", filepath.Join(module, "integration", "java", "pom.xml"), "-P", "server",
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+part)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch packages of RocketMQ: %w\n%s", err, out)
	}
	if err := os.Rename(part, dir); err != nil && !complete(dir) { // the interop tests may have been faster
		return fmt.Errorf("keep packages of RocketMQ: %w", err)
	}
	return nil
}

// complete reports whether the packages are in the folder.
func complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "rocketmq-broker-"+version+".jar"))
	return err == nil
}

// Command is a JVM that runs a class with the packages, its home and its logs
// in dir. heap is its flags of memory.
func Command(dir, packages string, heap []string, class string, args ...string) *exec.Cmd {
	all := append([]string{
		"-Duser.home=" + dir, "-Drocketmq.log.root=" + filepath.Join(dir, "logs"), "-Drocketmq.client.logRoot=" + filepath.Join(dir, "logs"),
	}, heap...)
	all = append(all, flags...)
	// Java itself expands the star.
	all = append(all, "-cp", dir+string(filepath.ListSeparator)+filepath.Join(packages, "*"), class)
	cmd := exec.CommandContext(context.Background(), "java", append(all, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "ROCKETMQ_HOME="+dir)
	return cmd
}

// compile compiles a class into dir.
func compile(ctx context.Context, dir, packages, name string, source []byte) error {
	path := filepath.Join(dir, name+".java")
	if err := os.WriteFile(path, source, 0o644); err != nil {
		return fmt.Errorf("write class: %w", err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "javac", "-proc:none", "-nowarn", "-cp", filepath.Join(packages, "*"), "-d", dir, path)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("compile %s.java: %w", name, err), errors.New(out.String()))
	}
	return nil
}
