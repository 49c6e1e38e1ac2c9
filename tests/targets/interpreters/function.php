<?php
// The function of tests/clients/test_interpreters.py in PHP: a Runtime API loop on its streams.
error_reporting(E_ALL & ~E_WARNING);

function work(int $rounds): string
{
    for ($i = 0; $i < $rounds * 20; $i++) {
        $garbage = [];
        for ($n = 0; $n < 20000; $n++) {
            $garbage[] = (object) ['next' => $garbage[$n - 1] ?? null, 'text' => md5((string) $n)];
        }
        $garbage[0]->next = $garbage[19999]; // a cycle, for the collector
    }
    gc_collect_cycles();
    return 'ok';
}

function told(bool $done): string
{
    return $done ? 'ok' : preg_replace('/.*: /', '', error_get_last()['message'] ?? 'failed');
}

function run(string $program): string
{
    $process = proc_open([$program], [1 => ['file', '/dev/null', 'w']], $pipes);
    if ($process === false) {
        return told(false);
    }
    $status = proc_close($process);
    return $status === 0 ? 'ok' : "status $status";
}

function connected(string $host, int $port): string
{
    $stream = stream_socket_client("tcp://$host:$port", $errno, $error, 5);
    return $stream && fread($stream, 5) ? 'ok' : ($errno ? (string) $errno : $error);
}

function handle(array $event): array
{
    $answer = [];
    if (isset($event['work'])) $answer['work'] = work($event['work']);
    if (isset($event['file'])) $answer['file'] = told(file_put_contents($event['file'], 'text') !== false);
    if (isset($event['program'])) $answer['program'] = run($event['program']);
    if (isset($event['host'])) $answer['connect'] = connected($event['host'], $event['port']);
    return $answer;
}

$api = 'http://' . getenv('AWS_LAMBDA_RUNTIME_API') . '/2018-06-01/runtime/invocation/';
ini_set('default_socket_timeout', '-1');
for (;;) {
    $event = file_get_contents($api . 'next');
    foreach ($http_response_header as $line) {
        if (preg_match('/^Lambda-Runtime-Aws-Request-Id: *(.*)/i', $line, $found)) $id = $found[1];
    }
    $body = json_encode((object) handle(json_decode($event, true)));
    $post = ['method' => 'POST', 'header' => 'Content-Type: application/json', 'content' => $body];
    file_get_contents("$api$id/response", false, stream_context_create(['http' => $post]));
}
