import jakarta.jws.WebMethod;
import jakarta.jws.WebParam;
import jakarta.jws.WebResult;
import jakarta.jws.WebService;
import jakarta.xml.bind.annotation.XmlAccessType;
import jakarta.xml.bind.annotation.XmlAccessorType;
import jakarta.xml.bind.annotation.XmlElement;
import jakarta.xml.bind.annotation.XmlType;
import jakarta.xml.ws.Endpoint;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** A web service as departments have them: made by JAX-WS annotations, answered by Metro. */
@WebService(serviceName = "Cases", portName = "CasesPort", targetNamespace = "http://cases.example/")
public class CaseService {
  private final Path data;

  public CaseService() {
    this(null);
  }

  private CaseService(Path data) {
    this.data = data;
  }

  @XmlAccessorType(XmlAccessType.FIELD)
  @XmlType(namespace = "http://cases.example/")
  public static class Case {
    @XmlElement(required = true)
    public String id;

    @XmlElement(nillable = true)
    public String name;

    public BigDecimal fee;
    public boolean open;

    @XmlElement(required = true)
    public String updated;
  }

  @XmlAccessorType(XmlAccessType.FIELD)
  @XmlType(namespace = "http://cases.example/")
  public static class Page {
    public int total;
    public List<Case> list = new ArrayList<>();
  }

  @WebMethod
  @WebResult(name = "return")
  public Page find(
      @WebParam(name = "since") String since,
      @WebParam(name = "page") int page,
      @WebParam(name = "size") int size,
      @WebParam(name = "token") String token) {
    if (!"s3cret-of-the-test".equals(token)) {
      throw new SecurityException("no access for " + token);
    }
    if (size < 1) {
      throw new IllegalArgumentException("size");
    }
    List<Case> all = all(since);
    Page answer = new Page();
    answer.total = all.size();
    int first = Math.min(all.size(), (page - 1) * size);
    answer.list = all.subList(first, Math.min(all.size(), first + size));
    return answer;
  }

  @WebMethod
  @WebResult(name = "return")
  public List<Case> all(@WebParam(name = "since") String since) {
    List<Case> found = new ArrayList<>();
    try {
      for (String line : Files.readAllLines(data)) {
        String[] cells = line.split("\t", -1);
        Case one = new Case();
        one.id = cells[0];
        one.name = cells[1].isEmpty() ? null : cells[1];
        one.fee = new BigDecimal(cells[2]);
        one.open = cells[3].equals("1");
        one.updated = cells[4];
        if (since == null || one.updated.compareTo(since) >= 0) {
          found.add(one);
        }
      }
    } catch (IOException error) {
      throw new IllegalStateException("the database is away");
    }
    return found;
  }

  @WebMethod
  @WebResult(name = "return")
  public String asText(@WebParam(name = "kind") String kind) {
    if (kind.equals("json")) {
      return "{\"rows\": [{\"id\": \"1\", \"fee\": 1.10}, {\"id\": \"2\", \"fee\": 2}]}";
    }
    return "<?xml version=\"1.0\" encoding=\"GBK\"?><rows><row><id>1</id><name>张&amp;三</name></row></rows>";
  }

  public static void main(String[] arguments) {
    String address = "http://127.0.0.1:" + arguments[0] + "/cases";
    Endpoint.publish(address, new CaseService(Path.of(arguments[1])));
    System.out.println("published");
  }
}
