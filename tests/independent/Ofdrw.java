import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.ofdrw.core.signatures.SigType;
import org.ofdrw.sign.verify.container.SESV4ValidateContainer;

/** Judges seal signatures of version 4 with ofdrw: a line "content signature" in Base64 each. */
public class Ofdrw {
    public static void main(String[] arguments) throws Exception {
        SESV4ValidateContainer judge = new SESV4ValidateContainer();
        BufferedReader lines =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] parts = line.split(" ");
            byte[] content = Base64.getDecoder().decode(parts[0]);
            byte[] signature = Base64.getDecoder().decode(parts[1]);
            String verdict = "taken";
            try {
                judge.validate(SigType.Seal, null, content, signature);
            } catch (Exception error) {
                verdict = "refused";
            }
            System.out.println(verdict);
        }
    }
}
