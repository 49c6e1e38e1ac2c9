// Ways of Java code to make a process, connect and write: `Ways FOLDER PORT`, like ways.py.
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;

public final class Ways {
    private interface Way {
        void run(String name) throws Exception;
    }

    public static void main(String[] arguments) {
        String closed = arguments[0] + "/closed/";
        int port = Integer.parseInt(arguments[1]);
        InetAddress here = InetAddress.getLoopbackAddress();
        Map<String, Way> ways = new LinkedHashMap<>();
        ways.put("ProcessBuilder", name -> new ProcessBuilder("/usr/bin/touch", closed + name).start().waitFor());
        ways.put("Runtime.exec", name -> Runtime.getRuntime().exec(new String[] {"/usr/bin/touch", closed + name}).waitFor());
        ways.put("Socket", name -> new Socket(here, port).close());
        ways.put("SocketChannel", name -> SocketChannel.open(new InetSocketAddress(here, port)).close());
        ways.put("DatagramSocket", name -> new DatagramSocket().send(new DatagramPacket(new byte[1], 1, here, port)));
        ways.put("Files.write", name -> Files.write(Path.of(closed + name), new byte[1]));
        ways.put("Files.createDirectory", name -> Files.createDirectory(Path.of(closed + name)));
        ways.put("File.createNewFile", name -> new java.io.File(closed + name).createNewFile());
        Map<String, String> found = new LinkedHashMap<>();
        int number = 0;
        for (Map.Entry<String, Way> way : ways.entrySet()) {
            try {
                way.getValue().run("java-" + number++);
                found.put(way.getKey(), "happened");
            } catch (Exception error) {
                found.put(way.getKey(), String.valueOf(error.getMessage()).replace('"', '\''));
            }
        }
        System.out.println(found.entrySet().stream().map(e -> '"' + e.getKey() + "\": \"" + e.getValue() + '"')
            .collect(Collectors.joining(", ", "{", "}")));
        System.exit(0);
    }
}
