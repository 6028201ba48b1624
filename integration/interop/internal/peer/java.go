package peer

import (
	"os"
	"path/filepath"

	"github.com/sluicemq/sluice/integration/interop/internal/child"
)

// opened are the flags without which Java 17 refuses RocketMQ's classes.
var opened = []string{
	"--add-exports=java.base/sun.nio.ch=ALL-UNNAMED", "--add-opens=java.base/java.nio=ALL-UNNAMED",
	"--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED",
}

// JVM is a command for a Java class with its home and logs in a folder.
func JVM(home string, heap []string, path, class string, args ...string) child.Command {
	a := append([]string{}, heap...)
	a = append(a, "-Duser.home="+home, "-Drocketmq.log.root="+filepath.Join(home, "logs"), "-Drocketmq.client.logRoot="+filepath.Join(home, "logs"),
		"-Drocketmq.client.logLevel=ERROR", "-Djava.io.tmpdir="+home)
	a = append(append(a, opened...), "-cp", path, class)
	return child.Command{Path: "java", Args: append(a, args...), Dir: home, Env: []string{"HOME=" + home, "ROCKETMQ_HOME=" + home}}
}

// Run is the command for a program, in a folder of its own.
func (p Program) Run(home string, heap ...string) (child.Command, error) {
	if err := os.MkdirAll(home, 0o755); err != nil {
		return child.Command{}, err
	}
	heap = append(heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
	return JVM(home, heap, p.Classes+string(os.PathListSeparator)+filepath.Join(p.Jars, "*"), p.Main), nil
}
