import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Scanner;
import java.util.regex.Pattern;

/** Reads lines of a pattern and a value, both in base64, and prints for each whether the pattern matches the value. */
class Patterns {
    public static void main(String[] arguments) {
        try (Scanner lines = new Scanner(System.in)) {
            while (lines.hasNextLine()) {
                String[] fields = lines.nextLine().split(" ", -1);
                System.out.println(Pattern.matches(text(fields[0]), text(fields[1])));
            }
        }
    }

    private static String text(String base64) {
        return new String(Base64.getDecoder().decode(base64), StandardCharsets.UTF_8);
    }
}
