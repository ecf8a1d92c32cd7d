package shop.tax;

/** The tax in a price: `java -jar tax.jar 1190` says 190. */
public final class Tax {
    static final int PERCENT = 19;

    private Tax() {}

    static int contained(int cents) {
        return Math.round(cents * (float) PERCENT / (100 + PERCENT));
    }

    public static void main(String[] arguments) {
        for (String cents : arguments) {
            System.out.println(contained(Integer.parseInt(cents)));
        }
    }
}
