package peer

import (
	"os"
	"path/filepath"

	"github.com/sluicemq/sluice/integration/internal/child"
)

// opened are the flags without which Java 17 refuses RocketMQ's classes.
var opened = []string{
	"--add-exports=java.base/sun.nio.ch=ALL-UNNAMED", "--add-opens=java.base/java.nio=ALL-UNNAMED",
	"--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED",
}

// JVM is a command for a Java class with its home and logs in a folder. With
// $SLUICE_INTEROP_LOGS the clients' logs are kept there and say more.
func JVM(home string, heap []string, path, class string, args ...string) child.Command {
	logs, level := filepath.Join(home, "logs"), "ERROR"
	if keep := os.Getenv("SLUICE_INTEROP_LOGS"); keep != "" {
		logs, level = filepath.Join(keep, filepath.Base(home)), "INFO"
	}
	a := append([]string{}, heap...)
	a = append(a, "-Duser.home="+home, "-Drocketmq.log.root="+logs, "-Drocketmq.client.logRoot="+logs, "-Drocketmq.client.logLevel="+level, "-Djava.io.tmpdir="+home)
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
