package etcdleader.interop;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.Election;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.election.CampaignResponse;
import io.etcd.jetcd.election.LeaderKey;
import io.etcd.jetcd.election.LeaderResponse;
import io.etcd.jetcd.election.NoLeaderException;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.support.CloseableClient;
import io.grpc.stub.StreamObserver;
import io.vertx.core.json.JsonObject;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

/**
 * A candidate of jetcd's Election, a client of etcd's v3election service, that tests drive over its standard streams.
 *
 * <p>The protocol is described in tests/interop/program.py. The service runs the election inside the server, and leaves
 * the lease to its caller: this class grants the lease, keeps it alive, and revokes it after it has resigned.
 */
public final class Candidate {
  private static final long PATIENCE_SECONDS = 30;

  /** One place in one queue. */
  private static final class Place {
    long lease;
    CloseableClient renewals = new CloseableClient() {};
    volatile LeaderKey leader;
    volatile boolean leaving;
  }

  private final Election election;
  private final Lease leases;
  private final Map<String, Place> places = new HashMap<>();
  private final PrintStream output = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  private Candidate(Client client) {
    election = client.getElectionClient();
    leases = client.getLeaseClient();
  }

  private static ByteSequence bytes(String text) {
    return ByteSequence.from(text, StandardCharsets.UTF_8);
  }

  private static <T> T await(CompletableFuture<T> future) throws Exception {
    return future.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
  }

  private void print(String name, String event, JsonObject more) {
    String line = more.put("name", name).put("event", event).encode();
    synchronized (output) {
      output.println(line);
    }
  }

  private void printError(String name, Throwable error) {
    print(name, "failed", new JsonObject().put("error", String.valueOf(error)));
  }

  private static JsonObject record(KeyValue kv) {
    return new JsonObject()
        .put("key", kv.getKey().toString(StandardCharsets.UTF_8))
        .put("value", kv.getValue().toString(StandardCharsets.UTF_8))
        .put("token", kv.getCreateRevision())
        .put("lease", kv.getLease());
  }

  /** A TTL of 0 leaves the lease to the server, which grants one of 60 seconds and does not keep it alive. */
  private void campaign(String name, String electionName, long ttl) throws Exception {
    Place place = new Place();
    places.put(name, place);
    if (ttl != 0) {
      place.lease = await(leases.grant(ttl)).getID();
      place.renewals = leases.keepAlive(place.lease, renewalsOf(name, place));
    }
    election
        .campaign(bytes(electionName), place.lease, bytes(name))
        .whenComplete((response, error) -> campaignEnded(name, place, response, error));
  }

  private void campaignEnded(String name, Place place, CampaignResponse response, Throwable error) {
    if (place.leaving) {
      return; // the service reports a victory even if the lease was revoked while its candidate waited
    }
    if (error != null) {
      printError(name, error);
      return;
    }
    LeaderKey leader = response.getLeader();
    place.leader = leader;
    place.lease = leader.getLease();
    JsonObject more = new JsonObject().put("key", leader.getKey().toString(StandardCharsets.UTF_8));
    print(name, "elected", more.put("value", name).put("token", leader.getRevision()).put("lease", leader.getLease()));
  }

  private StreamObserver<LeaseKeepAliveResponse> renewalsOf(String name, Place place) {
    return new StreamObserver<>() {
      @Override
      public void onNext(LeaseKeepAliveResponse response) {}

      @Override
      public void onError(Throwable error) {
        onCompleted();
      }

      @Override
      public void onCompleted() {
        if (!place.leaving) {
          print(name, "lost", new JsonObject());
        }
      }
    };
  }

  private Place find(String name) {
    Place place = places.get(name);
    if (place == null) {
      throw new IllegalArgumentException("no candidate " + name);
    }
    return place;
  }

  /** Leave the queue. jetcd cannot cancel a campaign: a waiting candidate leaves by revoking its lease. */
  private void resign(String name) throws Exception {
    Place place = find(name);
    places.remove(name);
    place.leaving = true;
    place.renewals.close();
    if (place.leader != null) {
      await(election.resign(place.leader));
    }
    await(leases.revoke(place.lease));
    print(name, "resigned", new JsonObject());
  }

  private void proclaim(String name, String value) throws Exception {
    await(election.proclaim(find(name).leader, bytes(value)));
    print(name, "proclaimed", new JsonObject());
  }

  private void observe(String name, String electionName) {
    election.observe(
        bytes(electionName),
        new Election.Listener() {
          @Override
          public void onNext(LeaderResponse response) {
            print(name, "observed", record(response.getKv()));
          }

          @Override
          public void onError(Throwable error) {
            printError(name, error);
          }

          @Override
          public void onCompleted() {}
        });
  }

  private void leader(String name, String electionName) throws Exception {
    try {
      print(name, "leader", record(await(election.leader(bytes(electionName))).getKv()));
    } catch (ExecutionException error) {
      if (!(error.getCause() instanceof NoLeaderException)) {
        throw error;
      }
      print(name, "leader", new JsonObject());
    }
  }

  private void run(String[] words) throws Exception {
    switch (words[0] + "/" + (words.length - 1)) {
      case "campaign/3":
        campaign(words[1], words[2], Long.parseLong(words[3]));
        break;
      case "resign/1":
        resign(words[1]);
        break;
      case "proclaim/2":
        proclaim(words[1], words[2]);
        break;
      case "observe/2":
        observe(words[1], words[2]);
        break;
      case "leader/2":
        leader(words[1], words[2]);
        break;
      default:
        throw new IllegalArgumentException("no such command: " + Arrays.toString(words));
    }
  }

  public static void main(String[] endpoints) throws Exception {
    String[] urls = Arrays.stream(endpoints).map(endpoint -> "http://" + endpoint).toArray(String[]::new);
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    Candidate candidate = new Candidate(Client.builder().endpoints(urls).build());
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      String[] words = line.trim().split("\\s+");
      try {
        candidate.run(words);
      } catch (Exception error) {
        candidate.printError(words[1], error);
      }
    }
    System.exit(0); // the threads of the client would keep the machine running
  }
}
